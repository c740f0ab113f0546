"""What the link will deliver next, as quantiles, learnt from what came after moments like this one."""

from __future__ import annotations

import math
from collections.abc import Sequence

PRIOR = (-4.0, -3.0, -1.8, -1.0, -0.5, -0.2, 0.0, 0.15, 0.35, 0.6)  # log of next over now, at LEVELS


class Forecast:
    """Quantiles of next over now."""

    def quantiles(self, rates: Sequence[float]) -> tuple[float, ...]:
        return tuple(rates[0] * math.exp(log) for log in PRIOR)
