"""One pool under one market: the production policy, modelled machines, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.config.pool import PlacerName, ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.policy.market import Zone
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.pool import PoolPolicy, Scaling
from skyfog_pool.policy.view import Load, Placement, Replica
from skyfog_sim.kernel import Alarm, Kernel
from skyfog_sim.machines import HOUR_NS, Count, MachineModel, Machines
from skyfog_sim.market import MarketTrace, zones_of

Make = Callable[[Iterable[Zone]], Placement]


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same target."""

    replicas: int

    def target(self, load: Load | None, replicas: Sequence[Replica], now_ns: int) -> int:
        return self.replicas

    def next_timer_ns(self) -> int | None:
        return None


@dataclass(frozen=True)
class PoolScenario:
    """What all policies are compared on."""

    market: MarketTrace
    config: ReplicaPolicyConfig = field(default_factory=lambda: ReplicaPolicyConfig(min_replicas=4))
    machines: MachineModel = field(default_factory=MachineModel)
    grace_ns: int = 600 * S  # for the first start; not counted as time below the target
    scaling: Callable[[ReplicaPolicyConfig], Scaling] = lambda config: Fixed(config.min_replicas)
    limit: int = 20_000_000  # calls of the kernel


@dataclass(frozen=True, slots=True)
class Sample:
    """The pool from a moment on."""

    at_ns: int
    target: int
    ready_spot: int
    ready_on_demand: int

    @property
    def ready(self) -> int:
        return self.ready_spot + self.ready_on_demand


@dataclass(frozen=True)
class PoolResult:
    """What one policy made of a scenario."""

    at_target: float  # share of time with ready >= target, after the grace
    usd: float
    on_demand_usd: float  # the target held with on-demand machines all the time
    count: Count
    series: list[Sample]
    length_ns: int
    decisions: int

    @property
    def relative_cost(self) -> float:
        """To on-demand only."""
        return self.usd / self.on_demand_usd

    def as_json(self) -> dict[str, Any]:
        return {
            "at_target": round(self.at_target, 5),
            "usd": round(self.usd, 2),
            "relative_cost": round(self.relative_cost, 4),
            "spot_launches": self.count.launches["spot"],
            "on_demand_launches": self.count.launches["on_demand"],
            "launch_failures": self.count.launch_failures,
            "preemptions": self.count.preemptions,
        }


class PoolReplay:
    """One run; `result()` when it is over."""

    def __init__(self, placement: PlacerName | Make, scenario: PoolScenario, seed: int) -> None:
        self.scenario = scenario
        self.kernel = Kernel()
        zones = zones_of(scenario.market.zones)
        make = PLACEMENTS[placement] if isinstance(placement, str) else placement
        self.policy = PoolPolicy(scenario.config, zones, make(zones), scenario.scaling(scenario.config))
        self.machines = Machines(
            self.kernel, scenario.market, scenario.machines, seed, self.policy, after_each=self._after_each
        )
        self.alarm = Alarm(self.kernel, self.policy.next_timer_ns, self._wake)
        self.series: list[Sample] = [Sample(0, self.policy.target, 0, 0)]

    def run(self) -> PoolResult:
        self.kernel.run(until_ns=self.scenario.market.length_ns, limit=self.scenario.limit)
        self.machines.close_books()
        return self.result()

    def result(self) -> PoolResult:
        length_ns = self.scenario.market.length_ns
        target_ns = at_ns = 0
        for sample, next_ns in zip(self.series, [*(s.at_ns for s in self.series[1:]), length_ns], strict=True):
            target_ns += sample.target * (next_ns - sample.at_ns)
            if sample.ready >= sample.target:
                at_ns += max(0, next_ns - max(sample.at_ns, self.scenario.grace_ns))
        return PoolResult(
            at_target=at_ns / (length_ns - self.scenario.grace_ns),
            usd=sum(self.machines.count.usd.values()),
            on_demand_usd=self.scenario.market.cheapest_on_demand() * target_ns / HOUR_NS,
            count=self.machines.count,
            series=self.series,
            length_ns=length_ns,
            decisions=self.kernel.calls,
        )

    def _wake(self) -> None:
        self.machines.perform(self.policy.on_timer(self.kernel.now_ns))
        self._after_each()

    def _after_each(self) -> None:
        self.alarm.reset()
        last, spot, on_demand = self.series[-1], self.machines.ready("spot"), self.machines.ready("on_demand")
        if (last.target, last.ready_spot, last.ready_on_demand) != (self.policy.target, spot, on_demand):
            if last.at_ns == self.kernel.now_ns:
                self.series.pop()
            self.series.append(Sample(self.kernel.now_ns, self.policy.target, spot, on_demand))


def replay(placement: PlacerName | Make, scenario: PoolScenario, seed: int = 0) -> PoolResult:
    """Run a placement, by name or made by a call, through a scenario. One seed gives one result."""
    return PoolReplay(placement, scenario, seed).run()
