"""What one robot knows of one replica: its latency, its load, and how far it may be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from skyfog_core.ids import RequestId
from skyfog_core.units import S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.health import SUSPECT, Health
from skyfog_router.policy.latency import LEAST_NS, LatencySketch

PRIOR_ANSWERS = 4.0  # weight of the service's distribution in that of one replica
FEW = 5  # answers, for the peak-EWMA
TAU_NS = 10 * S  # of the peak-EWMA (Finagle)
TRIAL_EVERY_NS = S


@dataclass(slots=True, eq=False)
class Replica:
    """One live replica."""

    key: ReplicaKey
    said: Announcement
    pool: LatencySketch  # of the whole service
    number: int = 0  # in the order of their coming
    weight: int = 0  # of 64 bits, drawn from its name: for rendezvous hashing
    health: Health = field(default_factory=Health)
    sketch: LatencySketch = field(default_factory=LatencySketch)
    lost: int = 0  # copies that were withdrawn since one was heard to its end
    heard: RequestId | None = None  # a copy that has lost, and whose answer is waited for all the same
    open: dict[RequestId, int] = field(default_factory=dict)  # asked and not over -> when asked
    peak_ns: float = 0.0  # peak-EWMA at peak_at_ns
    peak_at_ns: int = 0
    service_ns: float = 0.0  # EWMA of the time in the service itself
    ahead: float = 0.0  # requests that were at the replica when it last told, ours included
    told_ns: int = 0
    sent_since: int = 0
    back_ns: int = 0  # pushed back: nothing before
    heard_ns: int = 0
    tried_ns: int = -TRIAL_EVERY_NS
    asked: int = 0
    answered: int = 0
    won: int = 0
    failed: int = 0

    @property
    def local(self) -> bool:
        return self.said.local

    def survival(self, ns: float) -> float:
        """P(no answer within ns), its own distribution drawn to the service's while little is known of it."""
        if ns <= LEAST_NS:
            return 1.0
        mine = self.sketch.survival(ns)
        own = self.sketch.count
        if own >= 10 * PRIOR_ANSWERS:
            return mine
        return (own * mine + PRIOR_ANSWERS * self.pool.survival(ns)) / (own + PRIOR_ANSWERS)

    def quantile(self, q: float) -> int | None:
        """The time within which a share q is answered; the service's where its own is not known."""
        return self.sketch.quantile(q) if self.sketch.count >= PRIOR_ANSWERS else self.pool.quantile(q)

    def wait_ns(self, now_ns: int) -> float:
        """How long one more request would wait there before it runs, from what it told and what was sent since."""
        if not self.service_ns:
            return 0.0
        finished = (now_ns - self.told_ns) * self.said.capacity / self.service_ns
        load = max(0.0, self.ahead - finished) + self.sent_since
        return max(0.0, load - self.said.capacity + 1) * self.service_ns / self.said.capacity

    def peak_ewma_ns(self, now_ns: int) -> float:
        """The peak-EWMA latency: rises at once, falls with TAU."""
        if now_ns <= self.peak_at_ns or not self.peak_ns:
            return self.peak_ns
        return self.peak_ns * math.exp2(-(now_ns - self.peak_at_ns) / (8 * TAU_NS))

    def silence(self, now_ns: int) -> float:
        """-ln P(a sound replica is silent as long), the longest wait that still runs included."""
        if not self.open or self.sketch.count < PRIOR_ANSWERS:
            return self.health.silence
        asked_ns = next(iter(self.open.values()))
        return self.health.silence_with(self.sketch.hazard(now_ns - asked_ns), asked_ns, now_ns)

    def suspect(self, now_ns: int) -> bool:
        """Whether it may be frozen: silent for longer than chance explains."""
        return self.health.failures > 0 or self.silence(now_ns) >= SUSPECT

    def took(self, ns: int, now_ns: int) -> None:
        """Peak-EWMA: a slower answer counts at once, a faster one by and by."""
        if ns >= self.peak_ewma_ns(now_ns) or not self.peak_ns:
            self.peak_ns = float(ns)
        else:
            weight = math.exp2(-max(1, now_ns - self.peak_at_ns) / TAU_NS)
            if self.answered < FEW:  # the first answer of a cold replica is no guide: of a few, the mean
                weight = min(weight, self.answered / (self.answered + 1))
            self.peak_ns = self.peak_ns * weight + ns * (1.0 - weight)
        self.peak_at_ns = now_ns
