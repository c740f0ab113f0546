"""The arithmetic of a benchmark: quantiles, medians and spreads over rounds, growth of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, 0 <= q <= 1, interpolated between neighbours. Raises ValueError for no values."""
    if not values or not 0.0 <= q <= 1.0:
        raise ValueError(f"quantile {q} of {len(values)} values")
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its spread: the quartiles over the rounds of one run."""

    value: float
    low: float
    high: float


def figure(per_round: Sequence[float]) -> Figure:
    """The median over rounds, with its quartiles."""
    return Figure(median(per_round), quantile(per_round, 0.25), quantile(per_round, 0.75))


def ratio(mine: Sequence[Sequence[float]], peer: Sequence[Sequence[float]]) -> Figure:
    """How many times `peer` takes what `mine` takes: medians over all rounds; quartiles of the rounds' own ratios.

    Both hold one sequence a round, and round i of both was measured side by side.
    """
    if len(mine) != len(peer) or not mine:
        raise ValueError(f"{len(mine)} rounds beside {len(peer)}")
    rounds = [median(a) / median(b) for a, b in zip(mine, peer, strict=True)]
    value = median([v for one in mine for v in one]) / median([v for one in peer for v in one])
    return Figure(value, quantile(rounds, 0.25), quantile(rounds, 0.75))


def growth(samples: Sequence[float]) -> float:
    """By how much samples taken at even times grew over the second half: median at the end less that at the middle.

    Each median is over a tenth of the samples, so that one sample taken during a burst does not decide.
    """
    if len(samples) < 2:
        raise ValueError(f"growth of {len(samples)} samples")
    width = max(1, len(samples) // 10)
    middle = len(samples) // 2
    return median(samples[-width:]) - median(samples[middle : middle + width])
