"""From load reports to the policy's Load: what robots asked for lately, what it took, and what waits now.

Reports bring counters that grow while a process lives, so that a lost one loses nothing: each report adds what its
counters have gained since the last one of that process, to the second in which it came. A first report adds nothing,
since its requests may be of long ago, unless another process of that name is known, of which it is the restart.
Sums and latencies are kept by second and leave with it. What is true now (queues, medians by replica) is taken only
from who was heard lately.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

from skyfog_core.units import MS, US, S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.load import ReplicaLoad, RobotLoad
from skyfog_pool.policy.view import Load
from skyfog_pool.report import replica_number

WINDOW_NS = 60 * S  # SkyServe's window for the request rate
SILENT_NS = 5 * S  # five reports missing
MOST_ROBOTS, MOST_REPLICAS = 10_000, 1_000
GAMMA = 1.04  # buckets of latency: a quantile is off by at most 2 %
LEAST_US = 50.0
_LOG_GAMMA = math.log(GAMMA)

T = TypeVar("T", ReplicaLoad, RobotLoad)


@dataclass(slots=True)
class _Second:
    """What reports of one second added."""

    ns: int
    requests: int = 0
    answered: int = 0
    failed: int = 0
    over_slo: int = 0  # by the robots' own SLO
    finished: int = 0
    busy_us: int = 0
    latency: Counter[int] = field(default_factory=Counter)  # weight by bucket


class _Heard(Generic[T]):
    """The newest report of each process, and when it came; the longest silent go where there are too many.

    A process is a name and a boot: two that share a name by mistake are told apart, and not taken for restarts of each
    other over and over.
    """

    def __init__(self, most: int, nothing: T) -> None:
        """`nothing`: what a process told before its first report."""
        self._most = most
        self._nothing: T = nothing
        self._last: OrderedDict[tuple[str, int], tuple[int, T]] = OrderedDict()
        self._names: Counter[str] = Counter()  # processes heard of

    def put(self, who: str, load: T, now_ns: int) -> T | None:
        """Returns what its counters were before: None where that is not known."""
        old = self._last.pop((who, load.boot), None)
        before = old[1] if old is not None else self._nothing if self._names[who] else None
        self._last[who, load.boot] = (now_ns, load)
        self._names[who] += old is None
        if len(self._last) > self._most:
            self._drop()
        return before

    def since(self, then_ns: int) -> list[tuple[str, T]]:
        """Of those heard after then."""
        return [(who, load) for (who, _), (at_ns, load) in self._last.items() if at_ns > then_ns]

    def forget(self, then_ns: int) -> None:
        """Those not heard after then."""
        while self._last and next(iter(self._last.values()))[0] <= then_ns:
            self._drop()

    def _drop(self) -> None:
        (who, _), _ = self._last.popitem(last=False)
        self._names[who] -= 1
        if not self._names[who]:
            del self._names[who]


class LoadMeter:
    """Of one pool. Pure; `now_ns` never goes back."""

    def __init__(self, pool: str, slo_ms: float | None = None, window_ns: int = WINDOW_NS) -> None:
        """`slo_ms`: the pool's; without one, what the robots count as late by their own is taken."""
        self._pool = pool
        self.slo_ms = slo_ms
        self._window_ns = window_ns
        self._robots = _Heard(MOST_ROBOTS, RobotLoad())
        self._replicas = _Heard(MOST_REPLICAS, ReplicaLoad())
        self._seconds: deque[_Second] = deque()
        self._began_ns: int | None = None

    def on_robot_load(self, robot: str, load: RobotLoad, now_ns: int) -> None:
        """A robot reported."""
        second = self._second(now_ns)
        before = self._robots.put(robot, load, now_ns)
        if before is None:
            return
        answered = _gain(load.answered, before.answered)
        second.requests += _gain(load.requests, before.requests)
        second.failed += _gain(load.failed, before.failed)
        second.over_slo += _gain(load.over_slo, before.over_slo)
        second.answered += answered
        for took_us in load.latency_us[-answered:] if answered else ():
            second.latency[_bucket(took_us)] += 1

    def on_replica_load(self, who: ReplicaKey, load: ReplicaLoad, now_ns: int) -> None:
        """A replica reported; one that is not of the pool is not counted."""
        if replica_number(self._pool, who.replica) is None:
            return
        second = self._second(now_ns)
        before = self._replicas.put(str(who), load, now_ns)
        if before is None:
            return
        second.finished += _gain(load.finished, before.finished)
        second.busy_us += _gain(load.busy_us, before.busy_us)

    def load(self, now_ns: int) -> Load | None:
        """The last window as the fleet tells it; None where it never told anything."""
        if self._began_ns is None:
            return None
        self._forget(now_ns)
        seconds = self._seconds
        latency: Counter[int] = Counter()
        for second in seconds:
            latency.update(second.latency)
        answered, failed = sum(s.answered for s in seconds), sum(s.failed for s in seconds)
        finished, busy_us = sum(s.finished for s in seconds), sum(s.busy_us for s in seconds)
        replicas = self._replicas.since(now_ns - SILENT_NS)
        return Load(
            window_ns=max(1, min(self._window_ns, now_ns - self._began_ns)),
            requests=sum(s.requests for s in seconds),
            queued=sum(max(0, load.queued) for _, load in replicas),
            running=sum(max(0, load.running) for _, load in replicas),
            p50_ms=_quantile_ms(latency, 0.5),
            p99_ms=_quantile_ms(latency, 0.99),
            over_slo=self._over_slo(latency, answered, failed),
            service_ms=busy_us * US / MS / finished if finished else None,
            latency_ms=self._by_replica(now_ns),
        )

    def _over_slo(self, latency: Counter[int], answered: int, failed: int) -> float | None:
        if answered + failed == 0:
            return None
        if self.slo_ms is None:
            late: float = sum(second.over_slo for second in self._seconds)
        else:
            edge = _bucket(self.slo_ms * MS / US)
            over, told = sum(n for bucket, n in latency.items() if bucket > edge), latency.total()
            late = answered * over / told if told else 0.0  # a busy robot tells the latency of some of its answers
        return min(1.0, (late + failed) / (answered + failed))

    def _by_replica(self, now_ns: int) -> dict[int, float]:
        """The median over robots of what each sees as a replica's median."""
        seen: dict[int, list[float]] = {}
        for _, load in self._robots.since(now_ns - SILENT_NS):
            for name, took_us in load.replicas.items():
                number = replica_number(self._pool, name.rpartition("/")[2])
                if number is not None and took_us > 0:
                    seen.setdefault(number, []).append(took_us * US / MS)
        return {number: median(values) for number, values in sorted(seen.items())}

    def _second(self, now_ns: int) -> _Second:
        if self._began_ns is None:
            self._began_ns = now_ns
        self._forget(now_ns)
        if not self._seconds or now_ns - self._seconds[-1].ns >= S:
            self._seconds.append(_Second(now_ns))
        return self._seconds[-1]

    def _forget(self, now_ns: int) -> None:
        then_ns = now_ns - self._window_ns
        while self._seconds and self._seconds[0].ns <= then_ns:
            self._seconds.popleft()
        self._robots.forget(then_ns)
        self._replicas.forget(then_ns)


def _gain(now: int, before: int) -> int:
    """By how much a counter grew; never less than nothing, whatever a stranger sends."""
    return max(0, now - before)


def _bucket(took_us: float) -> int:
    return max(0, math.ceil(math.log(max(took_us, LEAST_US) / LEAST_US) / _LOG_GAMMA))


def _quantile_ms(latency: Counter[int], q: float) -> float | None:
    """The middle of the bucket that holds the q-quantile; None where there is none."""
    left = math.ceil(q * latency.total())
    for bucket, count in sorted(latency.items()):
        left -= count
        if left <= 0:
            return float(LEAST_US * GAMMA ** (bucket - 0.5) * US / MS)
    return None
