"""One pool under one market: the production policy, modelled machines, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from skyfog_core.config.pool import PlacerName, ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.policy.actions import Action
from skyfog_pool.policy.demand import Fixed, Scaling
from skyfog_pool.policy.market import Zone
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_pool.policy.view import Load, Placement
from skyfog_sim.kernel import Alarm, Kernel
from skyfog_sim.machines import HOUR_NS, Count, Listener, MachineModel, Machines, Served
from skyfog_sim.market import MarketTrace, zones_of
from skyfog_sim.requests import Arrivals, Latencies, flow

LOAD_WINDOW_NS = 60 * S

Make = Callable[[Iterable[Zone]], Placement]


class Pool(Listener, Protocol):
    """What a replay needs of a policy for a whole pool; PoolPolicy is one, and a peer may be."""

    target: int

    def on_load(self, load: Load, now_ns: int) -> list[Action]: ...
    def on_timer(self, now_ns: int) -> list[Action]: ...
    def next_timer_ns(self) -> int | None: ...


@dataclass(frozen=True)
class PoolScenario:
    """What all policies are compared on."""

    market: MarketTrace
    config: ReplicaPolicyConfig = field(default_factory=lambda: ReplicaPolicyConfig(min_replicas=4))
    machines: MachineModel = field(default_factory=MachineModel)
    grace_ns: int = 600 * S  # for the first start; not counted as time below the target
    scaling: Callable[[ReplicaPolicyConfig], Scaling] | None = None  # none: always min_replicas
    requests: Arrivals | None = None  # that flow through the replicas; where there is a scaling, it hears of their rate
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
    series: Sequence[Sample]
    served: Sequence[Served]
    length_ns: int
    calls: int  # of the kernel
    latencies: Latencies | None

    @property
    def relative_cost(self) -> float:
        """To on-demand only."""
        return self.usd / self.on_demand_usd

    def as_json(self) -> dict[str, Any]:
        row = {
            "at_target": round(self.at_target, 5),
            "usd": round(self.usd, 2),
            "relative_cost": round(self.relative_cost, 4),
            "spot_launches": self.count.launches["spot"],
            "on_demand_launches": self.count.launches["on_demand"],
            "launch_failures": self.count.launch_failures,
            "preemptions": self.count.preemptions,
        }
        if self.latencies is not None:
            row |= {"p50_s": self.latencies.p50_s, "p90_s": self.latencies.p90_s, "p99_s": self.latencies.p99_s}
            row |= {"requests": self.latencies.requests, "failed": self.latencies.failed}
        return row


class PoolReplay:
    """One run of one pool."""

    def __init__(self, pool: Pool, scenario: PoolScenario, seed: int) -> None:
        self.pool, self.scenario = pool, scenario
        self.kernel = Kernel()
        self.machines = Machines(self.kernel, scenario.market, scenario.machines, seed, pool, self._after_each)
        self.alarm = Alarm(self.kernel, pool.next_timer_ns, self._wake)
        self.series: list[Sample] = [Sample(0, pool.target, 0, 0)]
        if scenario.scaling is not None and scenario.requests is not None:
            self.kernel.after(LOAD_WINDOW_NS, self._tell_load)

    def run(self) -> PoolResult:
        self.kernel.run(until_ns=self.scenario.market.length_ns, limit=self.scenario.limit)
        self.machines.close_books()
        return self.result()

    def result(self) -> PoolResult:
        length_ns, grace_ns, requests = self.scenario.market.length_ns, self.scenario.grace_ns, self.scenario.requests
        target_ns = at_ns = 0
        for sample, next_ns in zip(self.series, [*(s.at_ns for s in self.series[1:]), length_ns], strict=True):
            target_ns += sample.target * (next_ns - sample.at_ns)
            if sample.ready >= sample.target:
                at_ns += max(0, next_ns - max(sample.at_ns, grace_ns))
        return PoolResult(
            at_target=at_ns / (length_ns - grace_ns),
            usd=sum(self.machines.count.usd.values()),
            on_demand_usd=self.scenario.market.cheapest_on_demand() * target_ns / HOUR_NS,
            count=self.machines.count,
            series=self.series,
            served=self.machines.served,
            length_ns=length_ns,
            calls=self.kernel.calls,
            latencies=None if requests is None else flow(requests, self.machines.served, grace_ns),
        )

    def _wake(self) -> None:
        self.machines.perform(self.pool.on_timer(self.kernel.now_ns))
        self._after_each()

    def _tell_load(self) -> None:
        now_ns, requests = self.kernel.now_ns, self.scenario.requests
        assert requests is not None
        load = Load(LOAD_WINDOW_NS, requests.between(now_ns - LOAD_WINDOW_NS, now_ns))
        self.machines.perform(self.pool.on_load(load, now_ns))
        self._after_each()
        self.kernel.after(LOAD_WINDOW_NS, self._tell_load)

    def _after_each(self) -> None:
        self.alarm.reset()
        last, machines, target = self.series[-1], self.machines, self.pool.target
        spot, on_demand = machines.ready["spot"], machines.ready["on_demand"]
        if last.ready_spot != spot or last.ready_on_demand != on_demand or last.target != target:
            if last.at_ns == self.kernel.now_ns:
                self.series.pop()
            self.series.append(Sample(self.kernel.now_ns, target, spot, on_demand))


def pool_of(placement: PlacerName | Make, scenario: PoolScenario) -> PoolPolicy:
    """The production policy with a placement, by name or made by a call."""
    zones, config = zones_of(scenario.market.zones), scenario.config
    make = PLACEMENTS[placement] if isinstance(placement, str) else placement
    scaling = Fixed(config.min_replicas) if scenario.scaling is None else scenario.scaling(config)
    return PoolPolicy(config, zones, make(zones), scaling)


def replay(placement: PlacerName | Make, scenario: PoolScenario, seed: int = 0) -> PoolResult:
    """Run a placement through a scenario. One seed gives one result."""
    return PoolReplay(pool_of(placement, scenario), scenario, seed).run()
