"""A modelled provider: machines that come, warm up, are taken by the market and are given back, and the bill.

A spot launch takes a slot of its zone at once, or fails with `capacity` where all are taken. Where a zone's capacity
falls below the slots taken, the surplus goes: first launches under way (they fail), then machines. The cloud knows its
own future and may tell of it ahead (recommendation, then notice); a machine once told goes at the time told. On-demand
machines are never taken. A machine costs from the moment it runs until it is gone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from skyfog_core.rng import stream
from skyfog_core.units import S
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.market import LaunchFault, Market, Notice, Prices
from skyfog_sim.durations import Constant, Duration
from skyfog_sim.kernel import Kernel
from skyfog_sim.market import MarketTrace, Steps, ZoneMarket

HOUR_NS = 3_600 * S
PROVISION, WARM_UP = Constant(60 * S), Constant(123 * S)
REFUSAL, DRAIN, SHUT_DOWN = Constant(30 * S), Constant(2 * S), Constant(10 * S)


class Listener(Protocol):
    """Who is told what happens; PoolPolicy is one. What it answers is done."""

    def on_prices(self, prices: dict[str, Prices], now_ns: int) -> list[Action]: ...
    def on_provisioning(self, replica: int, now_ns: int) -> list[Action]: ...
    def on_started(self, replica: int, now_ns: int) -> list[Action]: ...
    def on_ready(self, replica: int, now_ns: int) -> list[Action]: ...
    def on_notice(self, replica: int, notice: Notice, now_ns: int) -> list[Action]: ...
    def on_preempted(self, replica: int, now_ns: int) -> list[Action]: ...
    def on_launch_failed(self, replica: int, why: LaunchFault, now_ns: int) -> list[Action]: ...
    def on_drained(self, replica: int, now_ns: int) -> list[Action]: ...
    def on_terminated(self, replica: int, now_ns: int) -> list[Action]: ...


@dataclass(frozen=True, slots=True)
class MachineModel:
    """How the cloud behaves. The cold start of 183 s is SkyServe's (arXiv 2411.01438, section 5)."""

    provision: Duration = PROVISION  # from the order until the machine runs
    warm_up: Duration = WARM_UP  # from then until its service is ready
    refusal: Duration = REFUSAL  # until an order is known to have failed for capacity
    drain: Duration = DRAIN  # until a draining replica has finished what it had
    shut_down: Duration = SHUT_DOWN  # from the order to end until the machine is gone, and no longer costs
    victim: Literal["youngest", "oldest", "random"] = "random"  # which machines of a zone the market takes
    notice_ns: int = 120 * S  # an interruption is told so long ahead
    notice_share: float = 1.0  # of interruptions that are told at all
    rebalance_ns: int = 600 * S  # a recommendation comes so long ahead of an interruption
    rebalance_share: float = 0.0  # of interruptions that have one


@dataclass(slots=True)
class Machine:
    """One machine, or an order for one."""

    replica: int
    zone: str
    market: Market
    ordered_ns: int
    started_ns: int | None = None
    ready_ns: int | None = None  # since when its replica takes requests
    leaving: bool = False  # it drains, or is shut down
    ends_ns: int | None = None  # the market takes it then: told already
    over: bool = False

    @property
    def is_ready(self) -> bool:
        return self.ready_ns is not None


@dataclass(frozen=True, slots=True)
class Served:
    """A span in which a replica took requests; `abrupt` where it ended with the machine, and with what ran there."""

    replica: int
    zone: str
    market: Market
    from_ns: int
    to_ns: int
    abrupt: bool


@dataclass(slots=True)
class Count:
    """What happened so far."""

    launches: dict[Market, int] = field(default_factory=lambda: {"spot": 0, "on_demand": 0})
    launch_failures: int = 0
    preemptions: int = 0
    noticed: int = 0
    usd: dict[Market, float] = field(default_factory=lambda: {"spot": 0.0, "on_demand": 0.0})
    machine_ns: dict[Market, int] = field(default_factory=lambda: {"spot": 0, "on_demand": 0})


class Machines:
    """The provider of one pool on the kernel's time. `after_each` is called when an event and its answers are done."""

    def __init__(
        self,
        kernel: Kernel,
        market: MarketTrace,
        model: MachineModel,
        seed: int,
        listener: Listener,
        after_each: Callable[[], None] = lambda: None,
    ) -> None:
        self.kernel, self.market, self.model, self.listener = kernel, market, model, listener
        self.after_each = after_each
        self.live: dict[int, Machine] = {}  # by replica: those that hold a slot
        self.count = Count()
        self.served: list[Served] = []  # those that ended
        self.ready: dict[Market, int] = {"spot": 0, "on_demand": 0}  # replicas that take requests now
        self._zones: dict[str, ZoneMarket] = {zone.zone.name: zone for zone in market.zones}
        self._random = stream(seed, "machines", market.name)
        for time_ns in market.price_times():
            kernel.at(time_ns, self._tell_prices)
        for zone in market.zones:
            self._foretell(zone)

    # what the pool asks for

    def perform(self, actions: Iterable[Action]) -> None:
        """Do what a policy wants."""
        for action in actions:
            match action:
                case Launch():
                    self._launch(action)
                case Drain(replica=replica):
                    self._drain(replica)
                case Terminate(replica=replica):
                    self._terminate(replica)

    def _launch(self, order: Launch) -> None:
        machine = Machine(order.replica, order.zone, order.market, self.kernel.now_ns)
        self.count.launches[order.market] += 1
        has_room = self._taken(order.zone, order.market) < self._capacity(order.zone, order.market)
        self._tell(self.listener.on_provisioning(order.replica, self.kernel.now_ns))
        if not has_room:
            self._later(self.model.refusal, lambda: self._refused(machine))
            machine.over = True  # holds no slot
            return
        self.live[order.replica] = machine
        self._later(self.model.provision, lambda: self._started(machine))

    def _drain(self, replica: int) -> None:
        machine = self.live.get(replica)
        if machine is not None:
            self._stop(machine)
            machine.leaving = True
            self._later(self.model.drain, lambda: self._drained(machine))

    def _terminate(self, replica: int) -> None:
        machine = self.live.get(replica)
        if machine is not None:
            self._stop(machine)
            machine.leaving = True
        self._later(self.model.shut_down, lambda: self._gone(replica, machine))

    # what happens to machines

    def _refused(self, machine: Machine) -> None:
        self.count.launch_failures += 1
        self._tell(self.listener.on_launch_failed(machine.replica, "capacity", self.kernel.now_ns))

    def _started(self, machine: Machine) -> None:
        if machine.over or machine.leaving:
            return
        machine.started_ns = self.kernel.now_ns
        self._later(self.model.warm_up, lambda: self._ready(machine))
        self._tell(self.listener.on_started(machine.replica, self.kernel.now_ns))

    def _ready(self, machine: Machine) -> None:
        if machine.over or machine.leaving:
            return
        machine.ready_ns = self.kernel.now_ns
        self.ready[machine.market] += 1
        self._tell(self.listener.on_ready(machine.replica, self.kernel.now_ns))

    def _drained(self, machine: Machine) -> None:
        if not machine.over:
            self._tell(self.listener.on_drained(machine.replica, self.kernel.now_ns))

    def _gone(self, replica: int, machine: Machine | None) -> None:
        if machine is not None and machine.over:
            return  # the market took it meanwhile, and said so
        if machine is not None:
            self._end(machine)
        self._tell(self.listener.on_terminated(replica, self.kernel.now_ns))

    def _take(self, machine: Machine) -> None:
        """The market takes it."""
        if machine.over:
            return
        self._end(machine, abrupt=True)
        if machine.started_ns is None and not machine.leaving:
            self.count.launch_failures += 1
            self._tell(self.listener.on_launch_failed(machine.replica, "capacity", self.kernel.now_ns))
        else:
            self.count.preemptions += 1
            self._tell(self.listener.on_preempted(machine.replica, self.kernel.now_ns))

    # the market ahead

    def _foretell(self, zone: ZoneMarket) -> None:
        """Schedule what follows from each fall of a zone's capacity."""
        name = zone.zone.name
        for at_ns, before, after in zone.spot_capacity.changes():
            if after >= before or at_ns >= self.market.length_ns:
                continue
            if self.model.rebalance_share > 0:
                self.kernel.at(
                    at_ns - self.model.rebalance_ns, functools.partial(self._recommend, name, at_ns, int(after))
                )
            if self.model.notice_share > 0:
                self.kernel.at(at_ns - self.model.notice_ns, functools.partial(self._notice, name, at_ns, int(after)))
            self.kernel.at(at_ns, functools.partial(self._fall, name, int(after)))

    def _recommend(self, zone: str, at_ns: int, capacity: int) -> None:
        for machine in self._surplus(zone, capacity):
            if machine.ends_ns is None and self._random.random() < self.model.rebalance_share:
                self._tell(self.listener.on_notice(machine.replica, Notice("rebalance"), self.kernel.now_ns))

    def _notice(self, zone: str, at_ns: int, capacity: int) -> None:
        for machine in self._surplus(zone, capacity):
            if machine.started_ns is None or machine.ends_ns is not None:
                continue
            if self._random.random() < self.model.notice_share:
                machine.ends_ns = at_ns
                self.count.noticed += 1
                self.kernel.at(at_ns, functools.partial(self._take, machine))
                self._tell(self.listener.on_notice(machine.replica, Notice("interruption", at_ns), self.kernel.now_ns))

    def _fall(self, zone: str, capacity: int) -> None:
        for machine in self._surplus(zone, capacity):
            self._take(machine)

    def _surplus(self, zone: str, capacity: int) -> list[Machine]:
        """Machines beyond a capacity, those first that are told already, then orders, then as the model says."""
        held = [machine for machine in self.live.values() if machine.zone == zone and machine.market == "spot"]
        if len(held) <= capacity:
            return []
        if self.model.victim == "random":
            self._random.shuffle(held)
        else:
            held.sort(key=lambda machine: machine.ordered_ns, reverse=self.model.victim == "youngest")
        held.sort(key=lambda machine: (machine.ends_ns is None, machine.started_ns is not None))
        return held[: len(held) - capacity]

    # inside

    def close_books(self) -> None:
        """Bill what still runs, up to now; nothing may happen after it."""
        for machine in list(self.live.values()):
            self._end(machine)

    def _stop(self, machine: Machine, abrupt: bool = False) -> None:
        """Its replica takes no more requests."""
        if machine.ready_ns is not None:
            span = machine.ready_ns, self.kernel.now_ns
            self.served.append(Served(machine.replica, machine.zone, machine.market, *span, abrupt))
            machine.ready_ns = None
            self.ready[machine.market] -= 1

    def _end(self, machine: Machine, abrupt: bool = False) -> None:
        self._stop(machine, abrupt)
        machine.over = True
        del self.live[machine.replica]
        if machine.started_ns is None:
            return
        self.count.usd[machine.market] += self.cost(machine)
        self.count.machine_ns[machine.market] += self.kernel.now_ns - machine.started_ns

    def cost(self, machine: Machine) -> float:
        """USD up to now."""
        if machine.started_ns is None:
            return 0.0
        zone = self._zones[machine.zone]
        if machine.market == "on_demand":
            return zone.on_demand_price * (self.kernel.now_ns - machine.started_ns) / HOUR_NS
        return zone.spot_price.integral(machine.started_ns, self.kernel.now_ns) / HOUR_NS

    def _taken(self, zone: str, market: Market) -> int:
        return sum(machine.zone == zone and machine.market == market for machine in self.live.values())

    def _capacity(self, zone: str, market: Market) -> float:
        of = self._zones[zone]
        capacity: Steps | None = of.spot_capacity if market == "spot" else of.on_demand_capacity
        return float("inf") if capacity is None else capacity.at(self.kernel.now_ns)

    def _tell_prices(self) -> None:
        now_ns = self.kernel.now_ns
        prices = {name: zone.prices_at(now_ns) for name, zone in self._zones.items()}
        self._tell(self.listener.on_prices(prices, now_ns))

    def _tell(self, answer: list[Action]) -> None:
        self.perform(answer)
        self.after_each()

    def _later(self, delay: Duration, call: Callable[[], None]) -> None:
        self.kernel.after(delay.draw(self._random), call)
