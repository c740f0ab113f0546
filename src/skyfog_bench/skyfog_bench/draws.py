"""Service times that are drawn from a seed, for each replica and call: the same call is as slow under every policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skyfog_core.rng import stream


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Mostly lognormal around a median, sometimes slow."""

    median_ms: float
    spread: float = 0.2  # standard deviation of the logarithm
    slow_share: float = 0.0
    slow_ms: float = 0.0

    def ms(self, seed: int, zone: str, index: int) -> float:
        """What call `index` takes in `zone`."""
        draw = stream(seed, "service", zone, str(index))
        if draw.random() < self.slow_share:
            return self.slow_ms
        return self.median_ms * math.exp(draw.gauss(0.0, self.spread))
