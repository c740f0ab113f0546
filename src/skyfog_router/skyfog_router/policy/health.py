"""When a replica is not asked for a while, from observations alone.

    HEALTHY --too many failures in a row, silent too long, median far above the fleet's--> EJECTED for t
    EJECTED --t over--> PROBING --a probe answers in time--> HEALTHY
                        PROBING --it fails or stays silent--> EJECTED for 2 t, up to max_ejection_ms

Silence is judged as the phi accrual failure detector does (Hayashibara et al., SRDS 2004), with the replica's own
latency distribution: an unanswered wait w costs -ln S(w). To a sound replica the sum between two answers is
exponential with mean 1, so SUSPECT = 4 happens to it by chance in 2 % and SILENT = 9 in 0.01 % of its answers. A frozen
process, whose token stays for the lease, is out after a few waits of its usual latency.

A suspect replica is still asked, after the others. Never more than `max_ejected` of the replicas are out at once; whose
turn comes when that many are out stays in. With a share of healthy ones below `panic_below` nobody's health counts, as
in Envoy's panic mode: then it is more likely that the link is sick than that they all are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from enum import Enum
from statistics import median

from skyfog_core.config.router import HealthConfig
from skyfog_core.units import MS

SUSPECT = 4.0
SILENT = 9.0
FORGIVEN = 8  # answers in a row after which the next ejection is a first one again
RECENT = 15
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
        self._in_a_row = 0  # ejections without FORGIVEN answers between
        self._answers = 0  # in a row
        self._counted_until_ns = 0

    def on_answer(self, took_ns: int) -> None:
        """A valid answer."""
        self.failures, self.silence = 0, 0.0
        self.recent.append(took_ns)
        self.median_ns = median(self.recent)
        self._answers += 1
        if self._answers >= FORGIVEN:
            self._in_a_row, self.probation = 0, False

    def on_failure(self, why: str) -> None:
        """An answer that is none, or the loss of the replica's link."""
        self.failures += 1
        self._answers = 0
        self.why = why

    def on_silence(self, hazard: float, asked_ns: int, now_ns: int) -> None:
        """A wait ended without an answer. Waits that overlap are one observation: the longest counts."""
        self._answers = 0
        if asked_ns >= self._counted_until_ns:
            self.silence += hazard
        else:
            self.silence = max(self.silence, hazard)
        self._counted_until_ns = now_ns

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
        self.failures, self.silence, self._answers = 0, 0.0, 0
        self.recent.clear()


class HealthPolicy:
    """Judges replicas against the fleet. Pure; one for a service."""

    def __init__(self, config: HealthConfig) -> None:
        self.config = config

    def verdict(self, health: Health, hazard_now: float, fleet_median_ns: Callable[[], float | None]) -> str:
        """Why this replica should be ejected, or "". `hazard_now`: of the longest wait that still runs."""
        config = self.config
        if health.failures >= (1 if health.probation else config.consecutive_failures):
            return f"{health.failures} failures in a row, the last: {health.why}"
        if health.silence + hazard_now >= SILENT:
            return "silent far longer than it ever was"
        if len(health.recent) < config.outlier_samples or len(health.recent) % config.outlier_samples:
            return ""
        fleet_ns = fleet_median_ns()
        if fleet_ns is None or health.median_ns <= config.outlier_factor * fleet_ns:
            return ""
        return f"median latency {health.median_ns / MS:.1f} ms against the fleet's {fleet_ns / MS:.1f} ms"

    def may_eject(self, ejected: int, replicas: int) -> bool:
        """Whether one more of `replicas` may be out; the last one never."""
        most = min(math.ceil(self.config.max_ejected * replicas), replicas - 1)
        return ejected < most

    def panic(self, healthy: int, replicas: int) -> bool:
        """Whether so few are healthy that health is no longer believed."""
        return replicas > 0 and healthy / replicas < self.config.panic_below
