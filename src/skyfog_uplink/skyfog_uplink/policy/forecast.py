"""What the link will deliver next, as quantiles, learnt from what came after moments like this one.

A conditional density by kernels (Nadaraya and Watson; "analogues" in weather): each moment at which the link was asked
for is kept with its features and with the log of what it then delivered over what it delivered before. The forecast is
the weighted quantiles of these ratios, times the rate of now. A moment weighs by its likeness and by its recency.
Ratios have no scale, so what was learnt at 50 Mbit/s holds after a step to 2.

    features   log(fast/middle), log(middle/slow): a dip, or a slow fall?      log(busy time known of): how sure is now?
    outcome    log(rate within HORIZON from then on, while busy, over fast)

A prior of PRIOR_WEIGHT such moments holds the first seconds and moments unlike any before. Its lower tail also stands
for the stops that no sender sees which does not send just then.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from skyfog_core.units import MS, S
from skyfog_uplink.policy.capacity import LEAST_BPS, Capacity
from skyfog_uplink.policy.link import LEVELS

HORIZON_NS = 150 * MS
SETTLED_NS = 300 * MS  # after its end an outcome is known, if ever: what was under way is acknowledged
MIN_BUSY = 0.3  # share of the horizon for which the link must have been at work
REMEMBERED = 1_000
RECENCY = 0.999  # weight of a moment over that of the next one
WIDTHS = (0.35, 0.6, 0.6)  # of the kernel
LEAST_WEIGHT = 1e-4  # of a moment that is not alike
SAME = 0.1  # features that differ by less, in widths, have the same forecast
LEAST_BUSY_S = 0.003
PRIOR = (-4.0, -3.0, -1.8, -1.0, -0.5, -0.2, 0.0, 0.15, 0.35, 0.6)  # log ratio at LEVELS
PRIOR_SHARES = (0.015, 0.02, 0.04, 0.075, 0.125, 0.15, 0.15, 0.15, 0.125, 0.15)
PRIOR_WEIGHT = 6.0

Features = tuple[float, float, float]
FloatArray = npt.NDArray[np.float64]


def features_of(rates: Sequence[float], busy_s: float) -> Features:
    """`rates` [3] bits a second, fastest scale first; `busy_s` the busy time behind the first."""
    fast, middle, slow = rates
    return math.log(fast / middle), math.log(middle / slow), math.log(busy_s + LEAST_BUSY_S)


class Forecast:
    """Learns and says. Pure. Rows stand by rising ratio; those of the prior have no features."""

    def __init__(self, every_ns: int) -> None:
        self._every_ns = every_ns
        self._asked: deque[tuple[int, Features, float]] = deque()  # when, features, fast rate; outcomes are to come
        self._ratios = np.array(PRIOR)  # [n]
        self._features = np.zeros((len(PRIOR), 3))  # [n, 3]
        self._conditional = np.zeros(len(PRIOR))  # [n] 1 where likeness counts, 0 in the prior
        self._weights = np.array(PRIOR_SHARES) * PRIOR_WEIGHT  # [n]
        self._numbers = np.full(len(PRIOR), np.iinfo(np.int64).max)  # [n] in order of time; the prior never goes
        self._learnt = 0
        self._said: tuple[Features, FloatArray] | None = None

    def __len__(self) -> int:
        return len(self._ratios) - len(PRIOR)

    def on_asked(self, features: Features, fast_bps: float, now_ns: int) -> None:
        """The link is asked for at this moment."""
        if not self._asked or now_ns - self._asked[-1][0] >= self._every_ns:
            self._asked.append((now_ns, features, fast_bps))

    def on_progress(self, capacity: Capacity, now_ns: int) -> None:
        """Learn from those moments whose outcome is known by now."""
        while self._asked and now_ns - self._asked[0][0] >= HORIZON_NS + SETTLED_NS:
            at_ns, features, fast_bps = self._asked.popleft()
            bits, busy_s = capacity.between(at_ns, at_ns + HORIZON_NS)
            if busy_s >= MIN_BUSY * HORIZON_NS / S:
                self._learn(features, math.log(max(bits / busy_s, LEAST_BPS) / fast_bps))

    def quantiles(self, features: Features, fast_bps: float) -> tuple[float, ...]:
        """[LEVELS] bits a second, ascending."""
        if self._said is None or any(
            abs(a - b) > SAME * width for a, b, width in zip(self._said[0], features, WIDTHS, strict=True)
        ):
            self._said = (features, np.exp(self._logs(features)))
        return tuple((fast_bps * self._said[1]).tolist())

    def forget_asked(self) -> None:
        """Their times mean nothing any more."""
        self._asked.clear()

    def _logs(self, features: Features) -> FloatArray:
        apart = (self._features - features) / WIDTHS
        likeness = np.exp(-0.5 * np.einsum("nf,nf->n", apart, apart) * self._conditional)
        shares = np.cumsum(self._weights * (likeness + LEAST_WEIGHT))
        found: FloatArray = self._ratios[np.searchsorted(shares, np.array(LEVELS) * shares[-1])]
        return found

    def _learn(self, features: Features, ratio: float) -> None:
        if len(self) >= REMEMBERED:
            self._keep(np.arange(len(self._ratios)) != int(np.argmin(self._numbers)))
        self._weights *= np.where(self._conditional > 0, RECENCY, 1.0)
        at = int(np.searchsorted(self._ratios, ratio))
        self._ratios = np.insert(self._ratios, at, ratio)
        self._features = np.insert(self._features, at, features, axis=0)
        self._conditional = np.insert(self._conditional, at, 1.0)
        self._weights = np.insert(self._weights, at, 1.0)
        self._numbers = np.insert(self._numbers, at, self._learnt)
        self._learnt += 1
        self._said = None

    def _keep(self, rows: npt.NDArray[np.bool_]) -> None:
        self._ratios, self._features = self._ratios[rows], self._features[rows]
        self._conditional, self._weights = self._conditional[rows], self._weights[rows]
        self._numbers = self._numbers[rows]
