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
    """Moments and what came of them. Pure. Learning is cheap; what is told is made anew after some moments."""

    def __init__(self, widths: Sequence[float], levels: Sequence[float], prior: Prior) -> None:
        """`widths` of the kernel, one a feature; forecasts are quantiles at `levels`."""
        self._widths, self._levels, self._prior = tuple(widths), np.array(levels), prior
        self._outcomes = np.empty(REMEMBERED)  # a ring: moment k at k % REMEMBERED
        self._features = np.empty((REMEMBERED, len(widths)))  # in widths
        self._learnt = 0
        self._sort()

    def __len__(self) -> int:
        return min(self._learnt, REMEMBERED)

    def learn(self, features: Sequence[float], outcome: float) -> None:
        """That is what came of a moment."""
        assert math.isfinite(outcome)
        at = self._learnt % REMEMBERED
        self._outcomes[at] = outcome
        self._features[at] = [value / width for value, width in zip(features, self._widths, strict=True)]
        self._learnt += 1

    def quantiles(self, features: Sequence[float]) -> list[float]:
        """[levels] ascending, of what comes of a moment with these features."""
        if self._learnt - self._sorted_at >= min(STALE, 1 + self._sorted_at // STALE):
            self._sort()
        cell = tuple([round(value / width / CELL) for value, width in zip(features, self._widths, strict=True)])
        found = self._made.get(cell)
        if found is None:
            found = self._made[cell] = self._make(np.array(cell) * CELL)
        return found

    def _sort(self) -> None:
        """Moments and the prior by rising outcome."""
        count, prior = len(self), self._prior
        outcomes = np.concatenate((self._outcomes[:count], prior.outcomes))
        order = np.argsort(outcomes, kind="stable")
        ages = (self._learnt - 1 - np.arange(count)) % REMEMBERED
        self._by_outcome = outcomes[order]  # [n]
        self._weights = np.concatenate((RECENCY**ages, prior.shares()))[order]  # [n]
        self._like = np.concatenate((self._features[:count], np.zeros((len(prior.outcomes), len(self._widths)))))[order]
        self._conditional = order < count  # [n] False: like everything
        self._made: dict[tuple[int, ...], list[float]] = {}  # forecasts by cell
        self._sorted_at = self._learnt

    def _make(self, features: FloatArray) -> list[float]:
        apart = self._like - features
        likeness = np.exp(-0.5 * np.einsum("nf,nf->n", apart, apart) * self._conditional)
        shares = np.cumsum(self._weights * (likeness + LEAST_WEIGHT))
        found: list[float] = self._by_outcome[np.searchsorted(shares, self._levels * shares[-1])].tolist()
        return found
