"""What came after moments like this one: a conditional distribution by kernels, learnt as it goes.

As weather is told from analogues, and as Nadaraya and Watson estimate a density: each moment is kept with its features
and with what came of it. For a new moment those kept weigh by their likeness (a Gaussian kernel over the features) and
by their recency, and the weighted quantiles are the forecast. A prior that is like everything holds the beginning, and
moments unlike any before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

REMEMBERED = 1_000
RECENCY = 0.999  # weight of a moment over that of the next one
LEAST_WEIGHT = 1e-4  # of a moment that is not alike
CELL = 0.5  # widths: moments within a cell of the features' grid have one forecast
STALE = 16  # moments learnt until it is made anew


@dataclass(frozen=True, slots=True)
class Prior:
    """What is expected at `levels` before anything is known, weighing as many moments as `weight`."""

    levels: tuple[float, ...]
    outcomes: tuple[float, ...]
    weight: float

    def shares(self) -> FloatArray:
        """[levels] of each outcome: half way to its neighbours; sums to `weight`."""
        edges = [0.0, *((a + b) / 2 for a, b in zip(self.levels, self.levels[1:], strict=False)), 1.0]
        return np.diff(edges) * self.weight


class Analogues:
    """Moments and what came of them. Pure. Rows stand by rising outcome; those of the prior are like everything."""

    def __init__(self, widths: Sequence[float], levels: Sequence[float], prior: Prior) -> None:
        """`widths` of the kernel, one a feature; forecasts are quantiles at `levels`."""
        rows = len(prior.levels)
        self._widths, self._levels = tuple(widths), np.array(levels)
        self._outcomes = np.array(prior.outcomes)  # [n]
        self._features = np.zeros((rows, len(widths)))  # [n, features] in widths
        self._conditional = np.zeros(rows)  # [n] 0: like everything
        self._weights = prior.shares()  # [n]
        self._numbers = np.full(rows, np.iinfo(np.int64).max)  # [n] in order of time; the prior never goes
        self._prior_rows, self._learnt, self._made_at = rows, 0, 0
        self._made: dict[tuple[int, ...], FloatArray] = {}  # forecasts by cell

    def __len__(self) -> int:
        return len(self._outcomes) - self._prior_rows

    def learn(self, features: Sequence[float], outcome: float) -> None:
        """That is what came of a moment."""
        assert math.isfinite(outcome)
        if len(self) >= REMEMBERED:
            self._drop(int(np.argmin(self._numbers)))
        self._weights *= np.where(self._conditional > 0, RECENCY, 1.0)
        at = int(np.searchsorted(self._outcomes, outcome))
        self._outcomes = np.insert(self._outcomes, at, outcome)
        self._features = np.insert(self._features, at, np.divide(features, self._widths), axis=0)
        self._conditional = np.insert(self._conditional, at, 1.0)
        self._weights = np.insert(self._weights, at, 1.0)
        self._numbers = np.insert(self._numbers, at, self._learnt)
        self._learnt += 1

    def quantiles(self, features: Sequence[float]) -> FloatArray:
        """[levels] ascending, of what comes of a moment with these features."""
        if self._learnt - self._made_at >= STALE:
            self._made.clear()
            self._made_at = self._learnt
        cell = tuple([round(value / width / CELL) for value, width in zip(features, self._widths, strict=True)])
        found = self._made.get(cell)
        if found is None:
            found = self._made[cell] = self._make(np.array(cell) * CELL)
        return found

    def _make(self, features: FloatArray) -> FloatArray:
        apart = self._features - features
        likeness = np.exp(-0.5 * np.einsum("nf,nf->n", apart, apart) * self._conditional)
        shares = np.cumsum(self._weights * (likeness + LEAST_WEIGHT))
        found: FloatArray = self._outcomes[np.searchsorted(shares, self._levels * shares[-1])]
        return found

    def _drop(self, row: int) -> None:
        self._outcomes, self._features = np.delete(self._outcomes, row), np.delete(self._features, row, axis=0)
        self._conditional, self._weights = np.delete(self._conditional, row), np.delete(self._weights, row)
        self._numbers = np.delete(self._numbers, row)
