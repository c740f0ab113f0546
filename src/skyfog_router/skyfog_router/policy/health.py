"""When a replica is not asked for a while, from observations alone.

    HEALTHY --too many failures in a row, silent too long, median far above the fleet's--> EJECTED for t
    EJECTED --t over--> PROBING --a probe answers in time--> HEALTHY
                        PROBING --it fails or stays silent--> EJECTED for 2 t, up to max_ejection_ms

Silence is judged as the phi accrual failure detector does (Hayashibara et al., SRDS 2004), with the replica's own
latency distribution: an unanswered wait w costs -ln S(w), of waits that overlap only the part of which no other has
told, nor an answer: in a queue each waits for those in front. To a sound replica the sum between two answers is
exponential with mean 1, so SUSPECT = 4 happens to it by chance in 2 % and SILENT = 9 in 0.01 % of its answers. A frozen
process, whose token stays for the lease, is out after a few waits of its usual latency.

A suspect replica is still asked, after the others. Never more than `max_ejected` of the replicas are out at once; whose
turn comes when that many are out stays in. With a share of healthy ones below `panic_below` nobody's health counts, as
in Envoy's panic mode: then it is more likely that the link is sick than that they all are.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from enum import Enum
from statistics import median

from skyfog_core.config.router import HealthConfig
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey

SUSPECT = 4.0
SILENT = 9.0
FORGIVEN = 8  # answers in a row after which the next ejection is a first one again
RECENT = 15
FROZEN = "silent far longer than it ever was"
MAX_DOUBLINGS = 30


class State(Enum):
    """Of one replica."""

    HEALTHY = "healthy"
    EJECTED = "ejected"
    PROBING = "probing"


class Health:
    """What one replica's recent behaviour says of it. Decides nothing about others: see HealthPolicy."""

    def __init__(self) -> None:
        self.state = State.HEALTHY
        self.until_ns = 0  # of an ejection
        self.why = ""
        self.ejections = 0
        self.failures = 0  # in a row
        self.silence = 0.0  # -ln P(a sound replica is silent as long), of waits that are over
        self.recent: deque[int] = deque(maxlen=RECENT)  # latencies, ns
        self.median_ns = 0.0  # of recent
        self.probation = False  # back without a trial: the next failure ejects
        self.answers = 0  # since the last ejection or its end
        self._in_a_row = 0  # ejections without FORGIVEN answers between
        self._good = 0  # answers in a row
        self._counted_until_ns = 0

    def on_answer(self, config: HealthConfig, took_ns: int, now_ns: int) -> None:
        """A valid answer."""
        self.failures = 0
        self.on_sign_of_life(now_ns)
        self.recent.append(took_ns)
        self.median_ns = median(self.recent)
        self.answers += 1
        self._good += 1
        if self._good >= max(FORGIVEN, config.outlier_samples + 1):  # who is only slow is found out before
            self._in_a_row, self.probation = 0, False

    def on_sign_of_life(self, now_ns: int) -> None:
        """An answer or a refusal: waits count from here on."""
        self.silence, self._counted_until_ns = 0.0, now_ns

    def on_failure(self, why: str) -> None:
        """An answer that is none, or the loss of the replica's link."""
        self.failures += 1
        self._good = 0
        self.why = why

    def on_silence(self, hazard: float, asked_ns: int, now_ns: int) -> None:
        """A wait ended without an answer."""
        self._good = 0
        self.silence = self.silence_with(hazard, asked_ns, now_ns)
        self._counted_until_ns = now_ns

    def silence_with(self, hazard: float, asked_ns: int, now_ns: int) -> float:
        """The silence together with a wait from `asked_ns` until now; of it counts what no other wait covers."""
        new_ns = now_ns - max(asked_ns, self._counted_until_ns)
        return self.silence + hazard * new_ns / (now_ns - asked_ns) if new_ns > 0 else self.silence

    def eject(self, config: HealthConfig, why: str, now_ns: int) -> int:
        """Out from now on; returns for how long, ns."""
        doubled = config.ejection_ms << min(self._in_a_row, MAX_DOUBLINGS)
        for_ns = min(doubled, config.max_ejection_ms) * MS
        self.state, self.until_ns, self.why = State.EJECTED, now_ns + for_ns, why
        self.ejections += 1
        self._in_a_row += 1
        self._forget()
        return for_ns

    def try_again(self) -> None:
        """The ejection is over: one request at a time may be tried on it."""
        self.state = State.PROBING

    def readmit(self, probation: bool = False) -> None:
        """It answered on trial; or, on probation, the ejection is over and nothing can be tried without risk."""
        self.state, self.why, self.probation = State.HEALTHY, "", probation
        self._forget()

    def _forget(self) -> None:
        self.failures, self.silence, self.answers, self._good = 0, 0.0, 0, 0
        self.recent.clear()


class Medians:
    """The median latencies of those replicas that have enough answers, kept in order."""

    def __init__(self) -> None:
        self._of: dict[ReplicaKey, float] = {}
        self._sorted: list[float] = []

    def tell(self, replica: ReplicaKey, median_ns: float | None) -> None:
        """The replica's median as it is now; None: too few answers."""
        old = self._of.pop(replica, None)
        if old is not None:
            del self._sorted[bisect_left(self._sorted, old)]
        if median_ns is not None:
            self._of[replica] = median_ns
            insort(self._sorted, median_ns)

    def beside(self, replica: ReplicaKey) -> float | None:
        """The median of the others' medians; None where there are none."""
        mine = self._of.get(replica)
        place = len(self._sorted) if mine is None else bisect_left(self._sorted, mine)
        others = len(self._sorted) - (mine is not None)
        if not others:
            return None

        def nth(index: int) -> float:
            return self._sorted[index if index < place else index + 1]

        return nth(others // 2) if others % 2 else (nth(others // 2 - 1) + nth(others // 2)) / 2


class HealthPolicy:
    """Judges replicas against the fleet. Pure; one for a service."""

    def __init__(self, config: HealthConfig) -> None:
        self.config = config

    def verdict(self, health: Health, silence: float, fleet_ns: float | None) -> str:
        """Why this replica should be ejected, or "".

        `silence`: with the longest wait that still runs. `fleet_ns`: the median of the others' median latencies.
        """
        config = self.config
        if health.failures >= (1 if health.probation else config.consecutive_failures):
            return f"{health.failures} failures in a row, the last: {health.why}"
        if silence >= SILENT:
            return FROZEN
        if health.answers < config.outlier_samples or not self._slow(health.median_ns, fleet_ns):
            return ""
        return f"median latency {health.median_ns / MS:.1f} ms against the fleet's {(fleet_ns or 0.0) / MS:.1f} ms"

    def on_trial(self, health: Health, silence: float, fleet_ns: float | None) -> str:
        """Why a replica on trial should be ejected again, or ""."""
        if health.failures:
            return f"still so on trial: {health.why}"
        if silence >= SUSPECT:
            return FROZEN
        if health.recent and self._slow(health.recent[-1], fleet_ns):
            return f"still slow on trial: {health.recent[-1] / MS:.1f} ms"
        return ""

    def _slow(self, latency_ns: float, fleet_ns: float | None) -> bool:
        return fleet_ns is not None and latency_ns > self.config.outlier_factor * fleet_ns

    def may_eject(self, ejected: int, replicas: int) -> bool:
        """Whether one more of `replicas` may be out; the last one never."""
        most = min(math.ceil(self.config.max_ejected * replicas), replicas - 1)
        return ejected < most

    def panic(self, healthy: int, replicas: int) -> bool:
        """Whether so few are healthy that health is no longer believed."""
        return replicas > 0 and healthy / replicas < self.config.panic_below
