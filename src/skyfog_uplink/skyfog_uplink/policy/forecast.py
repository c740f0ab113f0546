"""What the link will deliver next, and how long a small message will take, learnt from moments like this one.

Rate. Features of a moment: log(fast/middle) and log(middle/slow) of the rates on three scales (a dip, or a slow
fall?), and the log of the busy time behind the fast one (how sure is it?). Outcome: the log of the rate in the HORIZON
from then on, while the link was busy, over the fast one. Ratios have no scale: what was learnt at 50 Mbit/s holds at 2.

Round trip. Feature: how far acknowledgements are late lately, which every one of them tells, whatever our own queue.
Outcome: the round trip of a small message AHEAD later, above the least. So where delays come in spells, the forecast
follows them; where they do not, it is what they always are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from skyfog_core.units import MS
from skyfog_uplink.policy.analogues import Analogues, Prior
from skyfog_uplink.policy.capacity import LEAST_BPS, Capacity
from skyfog_uplink.policy.link import LEVELS, RTT_LEVELS

HORIZON_NS = 150 * MS
SETTLED_NS = 300 * MS  # after its end an outcome is known, if ever: what was under way is acknowledged
MIN_BUSY_S = 0.01  # of the horizon; a link that was at work for less tells nothing
LEAN_S, FULL_S = 0.015, 0.06  # a shorter train's pauses are not all the link's: it leans on the rate of then
LEAST_BUSY_S = 0.003
RATE_WIDTHS = (0.35, 0.6, 0.6)
RATE_PRIOR = Prior(LEVELS, (-3.4, -2.5, -1.45, -0.9, -0.45, -0.16, 0.0, 0.13, 0.32, 0.55), weight=10.0)

AHEAD_NS = 100 * MS
LATENESS_NS = 60 * MS  # time constant
GRAIN_MS = 1.0
RTT_WIDTHS = (0.35,)
RTT_PRIOR = Prior(RTT_LEVELS, (0.2, 0.6, 1.2, 2.5), weight=4.0)
MAX_ASKED = 1_000

Features = tuple[float, float, float]


def features_of(rates: Sequence[float], busy_s: float) -> Features:
    """`rates` [3] bits a second, fastest scale first; `busy_s` the busy time behind the first."""
    fast, middle, slow = rates
    return math.log(fast / middle), math.log(middle / slow), math.log(busy_s + LEAST_BUSY_S)


class RateForecast:
    """Pure. A moment is kept when the link is asked for, so that what is learnt is what frames meet."""

    def __init__(self, every_ns: int) -> None:
        self._every_ns = every_ns
        self._asked: deque[tuple[int, Features, float]] = deque()  # when, features, fast rate; outcomes are to come
        self._analogues = Analogues(RATE_WIDTHS, LEVELS, RATE_PRIOR)

    def wants(self, now_ns: int) -> bool:
        """Whether this moment should be kept."""
        return not self._asked or now_ns - self._asked[-1][0] >= self._every_ns

    def on_asked(self, features: Features, fast_bps: float, now_ns: int) -> None:
        """The link is asked for at this moment."""
        if len(self._asked) < MAX_ASKED:
            self._asked.append((now_ns, features, fast_bps))

    def on_progress(self, capacity: Capacity, now_ns: int) -> None:
        """Learn from those moments whose outcome is known by now."""
        while self._asked and now_ns - self._asked[0][0] >= HORIZON_NS + SETTLED_NS:
            at_ns, features, fast_bps = self._asked.popleft()
            bits, busy_s = capacity.between(at_ns, at_ns + HORIZON_NS)
            if busy_s >= MIN_BUSY_S:
                lean_s = LEAN_S * max(1 - busy_s / FULL_S, 0.0)
                rate_bps = (bits + lean_s * fast_bps) / (busy_s + lean_s)
                self._analogues.learn(features, math.log(max(rate_bps, LEAST_BPS) / fast_bps))

    def quantiles(self, features: Features, fast_bps: float) -> tuple[float, ...]:
        """[LEVELS] bits a second, ascending."""
        return tuple([fast_bps * math.exp(log) for log in self._analogues.quantiles(features)])

    def forget_asked(self) -> None:
        """Their times mean nothing any more."""
        self._asked.clear()


class RttForecast:
    """Pure. Lateness: of an acknowledgement on its way down, over the least."""

    def __init__(self) -> None:
        self._analogues = Analogues(RTT_WIDTHS, RTT_LEVELS, RTT_PRIOR)
        self._late_ms = 0.0
        self._at_ns = 0
        self._past: deque[tuple[int, float]] = deque(maxlen=64)  # when, lateness

    @property
    def late_ns(self) -> int:
        """How late acknowledgements are lately."""
        return int(self._late_ms * MS)

    def on_ack(self, late_ns: int, now_ns: int) -> None:
        """An acknowledgement was so much later than the least."""
        keep = math.exp(-max(now_ns - self._at_ns, 0) / LATENESS_NS)
        self._late_ms += (1 - keep) * (late_ns / MS - self._late_ms)
        self._at_ns = now_ns
        if not self._past or now_ns - self._past[-1][0] >= AHEAD_NS // 10:
            self._past.append((now_ns, self._late_ms))

    def on_round_trip(self, above_ns: int, now_ns: int) -> None:
        """A small message took so much longer than the least round trip."""
        then_ms = None
        while self._past and self._past[0][0] <= now_ns - AHEAD_NS:
            then_ms = self._past.popleft()[1]
        if then_ms is not None:
            feature = math.log(then_ms + GRAIN_MS)
            self._analogues.learn((feature,), math.log(above_ns / MS + GRAIN_MS) - feature)

    def above_ms(self) -> list[float]:
        """[RTT_LEVELS] ascending, over the least round trip."""
        feature = math.log(self._late_ms + GRAIN_MS)
        return [max(math.exp(feature + log) - GRAIN_MS, 0.0) for log in self._analogues.quantiles((feature,))]

    def forget(self) -> None:
        """The clocks mean something else from now on."""
        self._past.clear()
        self._late_ms = 0.0
