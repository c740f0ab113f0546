"""How long something takes, as a distribution: of links, of services, of pauses."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol


class Duration(Protocol):
    """A distribution of durations in nanoseconds."""

    @property
    def most_ns(self) -> int:
        """No draw is longer."""
        ...

    def draw(self, random: Random) -> int:
        """One duration, at least 0."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    ns: int

    @property
    def most_ns(self) -> int:
        return self.ns

    def draw(self, random: Random) -> int:
        return self.ns


@dataclass(frozen=True, slots=True)
class Uniform:
    """Anything between two bounds, both included."""

    low_ns: int
    high_ns: int

    @property
    def most_ns(self) -> int:
        return self.high_ns

    def draw(self, random: Random) -> int:
        return self.low_ns + int(random.random() * (self.high_ns - self.low_ns + 1))


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A median and a long tail, cut at `most_ns`; `sigma` is that of the logarithm (0.5: p99 is 3.2 medians)."""

    median_ns: int
    sigma: float
    most_ns: int

    def draw(self, random: Random) -> int:
        return min(self.most_ns, round(self.median_ns * math.exp(random.gauss(0.0, self.sigma))))


@dataclass(frozen=True, slots=True)
class Empirical:
    """What was recorded: points of the inverse distribution, straight lines between them."""

    shares: tuple[float, ...]  # 0 first, 1 last, rising
    values_ns: tuple[int, ...]  # one a share, never falling

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.values_ns) or len(self.shares) < 2:
            raise ValueError(f"{len(self.shares)} shares and {len(self.values_ns)} values; two or more of each, alike")
        if self.shares[0] != 0.0 or self.shares[-1] != 1.0 or list(self.shares) != sorted(set(self.shares)):
            raise ValueError(f"shares {self.shares} must rise from 0 to 1")
        if self.values_ns[0] < 0 or list(self.values_ns) != sorted(self.values_ns):
            raise ValueError("durations must not be negative, nor fall")

    @classmethod
    def of_samples(cls, samples_ns: Sequence[int]) -> Empirical:
        """From recorded durations. Raises ValueError where there is none."""
        values = sorted(samples_ns) * (2 if len(samples_ns) == 1 else 1)
        last = len(values) - 1
        return cls(tuple(i / last for i in range(len(values))) if last > 0 else (), tuple(values))

    @classmethod
    def of_quantiles(cls, quantiles: Mapping[float, int]) -> Empirical:
        """From published quantiles, the least (0) and the most (1) included. Raises ValueError."""
        shares = sorted(quantiles)
        return cls(tuple(shares), tuple(quantiles[share] for share in shares))

    @property
    def most_ns(self) -> int:
        return self.values_ns[-1]

    def draw(self, random: Random) -> int:
        share = random.random()
        i = bisect_right(self.shares, share)
        low, high = self.shares[i - 1], self.shares[i]
        below, above = self.values_ns[i - 1], self.values_ns[i]
        return below + round((above - below) * (share - low) / (high - low))
