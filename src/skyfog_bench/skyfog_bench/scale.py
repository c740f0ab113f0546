"""What the robot's policy itself costs: 1,000 robots, 100 replicas, ten of which come or go each second.

The fleet is simulated; the routers are production's. Processor time is taken around each of their events, so it has
neither the simulation's own time nor other processes' in it; what reading the clock costs is taken off. A request pays
for its own call, replies, errors and ends, and for its share of the timers and of the looks at the fleet, which belong
to no one request.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from skyfog_bench.measure import figure, quantile
from skyfog_bench.processes import Processes
from skyfog_bench.report import Goal, Report, at_most
from skyfog_core.config.router import RoutingConfig
from skyfog_core.ids import RequestId
from skyfog_router.policy.router import Router
from skyfog_sim.cluster import production_router
from skyfog_sim.robot import RobotModel
from skyfog_sim.scale import BigFleet, Metered, ScaleModel

LIMIT_US = 100.0
CHURN_PER_S = 10.0
OF_REQUESTS = frozenset({"on_call", "on_reply", "on_error", "on_ended"})
OF_MEMBERSHIP = frozenset({"on_join", "on_leave"})
US = 1e3  # ns


@dataclass(frozen=True, slots=True)
class Size:
    """How large the fleet is, and for how long it is watched, in simulated seconds."""

    robots: int
    replicas: int
    seconds: float
    rounds: int
    policies: tuple[str, ...]


FULL = Size(robots=1_000, replicas=100, seconds=6.0, rounds=2, policies=("slo", "hedged"))
QUICK = Size(robots=200, replicas=100, seconds=5.0, rounds=1, policies=("slo",))


class ProcessorClock:
    """Processor time of this thread."""

    def now_ns(self) -> int:
        return time.thread_time_ns()


@dataclass(slots=True)
class Bill:
    """What all routers of a fleet spent, in ns of processor time."""

    reading_ns: int  # that two readings of the clock are apart
    by_request: Counter[RequestId] = field(default_factory=Counter)
    by_event: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, spent_ns: int, given: tuple[Any, ...]) -> None:
        spent_ns = max(0, spent_ns - self.reading_ns)
        self.by_event[name] += spent_ns
        self.events[name] += 1
        if name in OF_REQUESTS:
            self.by_request[given[0]] += spent_ns

    def requests_us(self) -> list[float]:
        """Of each request, its share of what belongs to none included; membership apart."""
        shared = self.by_event["on_timer"] / max(1, len(self.by_request))
        return [(spent + shared) / US for spent in self.by_request.values()]

    def membership_us(self) -> float:
        """Of one replica that comes or goes, at one robot."""
        count = sum(self.events[name] for name in OF_MEMBERSHIP)
        return sum(self.by_event[name] for name in OF_MEMBERSHIP) / US / max(1, count)


class Billed(Metered):
    """A router whose events are put on a bill."""

    def __init__(self, router: Router, bill: Bill) -> None:
        super().__init__(router, ProcessorClock())
        self._bill = bill

    def _timed(self, name: str, event: Any, *given: Any, **named: Any) -> Any:
        before_ns = self.spent_ns[name]
        actions = super()._timed(name, event, *given, **named)
        self._bill.add(name, self.spent_ns[name] - before_ns, given)
        return actions


def run(_processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Every policy on the same fleet, `rounds` times with other seeds."""
    report = Report("scale", seed)
    for policy in size.policies:
        medians, p99s, means = [], [], []
        bills, failed = [], 0
        for number in range(size.rounds):
            say(f"{policy}: {size.robots} robots, {size.replicas} replicas, round {number + 1} of {size.rounds} …")
            fleet, bill = play(policy, size, 1_000 * seed + number)
            took_us = bill.requests_us()
            medians.append(median(took_us))
            p99s.append(quantile(took_us, 0.99))
            means.append(sum(took_us) / len(took_us))
            bills.append(bill)
            failed += fleet.check.outcomes.total() - fleet.check.outcomes["delivered"]
        report.rows.append(
            {
                "policy": policy,
                "robots": size.robots,
                "replicas": size.replicas,
                "came_or_went_per_s": CHURN_PER_S,
                "requests": sum(len(bill.by_request) for bill in bills),
                "failed": failed,
                "p50_us": figure(medians).value,
                "mean_us": figure(means).value,
                "p99_us": figure(p99s).value,
                "join_or_leave_us": figure([bill.membership_us() for bill in bills]).value,
            }
        )
        report.goals.append(at_most(f"{policy}: median cost of a request, us", LIMIT_US, figure(medians)))
        report.goals.append(at_most(f"{policy}: mean cost of a request, us", LIMIT_US, figure(means)))
        report.goals.append(at_most(f"{policy}: P99 cost of a request, us", LIMIT_US, figure(p99s)))
    report.goals.append(Goal("requests failed", 0, sum(row["failed"] for row in report.rows)))
    return report


def play(policy: str, size: Size, seed: int) -> tuple[BigFleet, Bill]:
    """One fleet from its first call to its last event. Raises skyfog_sim.check.Broken."""
    bill = Bill(reading_ns())

    def make(config: RoutingConfig, told: RobotModel, drawn: int) -> Any:
        return Billed(production_router(config, told, drawn), bill)

    routing = RoutingConfig.model_validate({"policy": policy})
    model = ScaleModel(size.robots, size.replicas, seconds=size.seconds, churn_per_s=CHURN_PER_S, routing=routing)
    fleet = BigFleet(model, seed, make_router=make)
    fleet.run()
    return fleet, bill


def reading_ns(times: int = 1_000) -> int:
    """What reading the clock costs."""
    clock = ProcessorClock()
    apart = []
    for _ in range(times):
        began_ns = clock.now_ns()
        apart.append(clock.now_ns() - began_ns)
    return round(median(apart))
