"""What a second below the target is worth: a token bucket of the time below target that the service may still spend."""

from __future__ import annotations

import math

WINDOW_S = 86_400.0  # the bucket holds what may be spent in a day
CARE = 3.0  # an empty bucket makes a second e^CARE times as dear as one half full


class Budget:
    """Time below target: allowed 1 - availability of all time, spent as it happens.

    With the bucket half full, what an hour may spend is worth `usd_h`, the price of one spare machine for that hour: a
    spare is then held where it saves as much as is allowed. An emptier bucket makes it dearer, a fuller cheaper.
    """

    def __init__(self, availability: float, fill: float = 0.5) -> None:
        self.allowed = 1.0 - availability
        self._fill_s = fill * self.full_s

    @property
    def full_s(self) -> float:
        return self.allowed * WINDOW_S

    @property
    def fill(self) -> float:
        """1: full; below 0: overspent."""
        return self._fill_s / self.full_s

    @fill.setter
    def fill(self, fill: float) -> None:
        self._fill_s = fill * self.full_s

    def pass_time(self, seconds: float, short: bool) -> None:
        left = self._fill_s + self.allowed * seconds - (seconds if short else 0.0)
        self._fill_s = max(-self.full_s, min(self.full_s, left))

    def worth(self, usd_h: float) -> float:
        """USD that a second below target costs."""
        return usd_h / (self.allowed * 3_600.0) * math.exp(2.0 * CARE * (0.5 - self.fill))
