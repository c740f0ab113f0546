"""A cloud as its interface is: launches by token, listings, machines given back, and all the ways in which these fail.

Unlike machines.py, which is quick and tells the policy everything at once, this one is what a controller has to live
with: calls take time, may be refused, may fail with their outcome unknown, and what happened is seen in listings. The
bill is its own. A machine that runs warms up and becomes a process of the fleet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import MS, S
from skyfog_pool.policy.doomed import serves_for_s
from skyfog_pool.policy.market import LaunchFault, Notice, NoticeKind, Prices, Zone
from skyfog_pool.provider.base import Ending, Instance, Order, Phase
from skyfog_sim.durations import Duration, Uniform
from skyfog_sim.kernel import Kernel
from skyfog_sim.pool_fleet import PoolFleet, Runner

HOUR_NS = 3_600 * S
CALL = Uniform(20 * MS, 400 * MS)  # of the provider's interface
LATE = Uniform(0, 40 * S)  # until the machine of a launch that was not answered comes
LISTED_NS = 60 * S  # for so long a machine that is gone is still told of
STOP = Uniform(200 * MS, 2 * S)  # from the order to end until the machine is gone

Call = Callable[[], None]
Launched = Callable[[Instance], None]
Failed = Callable[[LaunchFault | None], None]


@dataclass(slots=True)
class CloudZone:
    """One zone now. Faults change it."""

    zone: Zone
    capacity: int  # spot machines of ours at once
    prices: Prices
    fault: LaunchFault | None = None  # launches fail so
    hangs: bool = False  # launches are not answered, though a machine comes, by and by
    slowness: float = 1.0  # of cold starts


@dataclass(slots=True)
class Machine:
    """One machine: what a listing tells of it, what runs on it, and what it has cost."""

    told: Instance
    started_ns: int | None = None
    ended_ns: int | None = None
    billed_ns: int = 0
    usd: float = 0.0
    runner: Runner | None = None

    @property
    def is_alive(self) -> bool:
        return self.told.phase is not Phase.GONE

    @property
    def runs(self) -> bool:
        return self.told.phase in {Phase.RUNNING, Phase.STOPPING}


class PoolCloud:
    """The provider of one pool."""

    def __init__(
        self,
        kernel: Kernel,
        random: Random,
        fleet: PoolFleet,
        zones: list[CloudZone],
        provision: Duration,
        note: Callable[[str, object, str], None],
        config: ReplicaPolicyConfig,
    ) -> None:
        """`config`: by what runners do on a notice; it is in their environment."""
        self._config = config
        self._kernel, self._random, self._fleet, self._note = kernel, random, fleet, note
        self.zones = {each.zone.name: each for each in zones}
        self.ever = {each.zone.name: [each.prices] for each in zones}  # prices
        self.machines: dict[str, Machine] = {}  # by token
        self.is_out = False  # every call fails
        self.on_notice: Callable[[Machine, Notice], None] = lambda *_: None
        self._late: set[str] = set()  # tokens of launches that were not answered, and go on
        self._provision = provision

    # the interface

    def launch(
        self, order: Order, launched: Callable[[Instance], None], failed: Callable[[LaunchFault | None], None]
    ) -> None:
        """`failed` with a fault: certainly no machine; with None: it cannot be told."""
        self._after_call(lambda: self._launch(order, launched, failed))

    def terminate(self, token: str, answered: Callable[[bool], None]) -> None:
        """`answered` whether the order was taken."""

        def arrive() -> None:
            machine = self.machines[token]
            if not self.is_out and machine.told.phase in {Phase.PENDING, Phase.RUNNING}:
                self._settle(machine)
                machine.told = replace(machine.told, phase=Phase.STOPPING)
                self._kernel.after(STOP.draw(self._random), partial(self.end, machine, Ending.RETURNED))
            taken = not self.is_out
            self._after_call(lambda: answered(taken))

        self._after_call(arrive)

    def instances(self, listed: Callable[[list[Instance]], None], failed: Call) -> None:
        """Those that are there, and those that went lately."""

        def arrive() -> None:
            if self.is_out:
                self._after_call(failed)
                return
            since_ns = self._kernel.now_ns - LISTED_NS
            told = [m.told for m in self.machines.values() if m.ended_ns is None or m.ended_ns >= since_ns]
            self._after_call(lambda: listed(told))

        self._after_call(arrive)

    def prices(self) -> dict[str, Prices]:
        return {name: zone.prices for name, zone in self.zones.items()}

    # the market

    def reprice(self, zone: str, spot: float) -> None:
        for machine in self._running(zone):
            self._settle(machine)
        self.zones[zone].prices = Prices(spot, self.zones[zone].prices.on_demand)
        self.ever[zone].append(self.zones[zone].prices)

    def shrink(self, zone: str, capacity: int, notice_ns: int) -> None:
        """From now on no more than that: what is beyond goes, after a notice where there is one."""
        self.zones[zone].capacity = capacity
        self.take(zone, len(self.spot(zone)) - capacity, notice_ns)

    def take(self, zone: str, count: int, notice_ns: int) -> None:
        """The market takes so many spot machines of a zone."""
        held = self.spot(zone)
        self._random.shuffle(held)
        for machine in held[: max(0, count)]:
            if notice_ns:
                self.warn(machine, "interruption", notice_ns)
            self._kernel.after(notice_ns, partial(self.end, machine, Ending.PREEMPTED))

    def warn(self, machine: Machine, kind: NoticeKind, left_ns: int | None) -> None:
        """The machine's runner hears it first, and drains by itself, now or later, where the machine is to go."""
        runner, config = machine.runner, self._config
        if runner is not None and kind == "interruption":
            left_s = None if left_ns is None or not runner.answers else left_ns / S
            serves_s = serves_for_s(left_s, config.drain_seconds) if config.on_notice == "serve" else 0.0
            drain_ns = (left_ns or 0) - round(serves_s * S)
            if serves_s > 0:
                self._kernel.after(round(serves_s * S), lambda: runner.drain(drain_ns, lambda: None))
            else:
                runner.drain(drain_ns, lambda: None)
        if machine.told.phase is Phase.RUNNING:
            machine.told = replace(machine.told, notice=kind)
            self.on_notice(machine, Notice(kind, None if left_ns is None else self._kernel.now_ns + left_ns))

    def spot(self, zone: str) -> list[Machine]:
        return [m for m in self.alive() if m.told.zone == zone and m.told.market == "spot"]

    def alive(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.is_alive]

    def end(self, machine: Machine, ending: Ending) -> None:
        """The machine is gone."""
        if not machine.is_alive:
            return
        self._settle(machine)
        machine.told = replace(machine.told, phase=Phase.GONE, ending=ending)
        machine.ended_ns = self._kernel.now_ns
        if machine.runner is not None:
            machine.runner.kill()
        self._note("gone", machine.told.replica, ending.value)

    def bill(self) -> float:
        """USD up to now."""
        for machine in self.alive():
            self._settle(machine)
        return sum(machine.usd for machine in self.machines.values())

    # inside

    def _launch(self, order: Order, launched: Launched, failed: Failed) -> None:
        zone = self.zones[order.zone]
        known = self.machines.get(order.token)
        if known is None and not self.is_out and order.token not in self._late:
            full = order.market == "spot" and len(self.spot(order.zone)) >= zone.capacity
            fault: LaunchFault | None = "capacity" if full else zone.fault
            if fault is not None and fault != "error":
                self._after_call(lambda: failed(fault))
                return
            if zone.hangs:
                self._late.add(order.token)
                self._kernel.after(LATE.draw(self._random), partial(self._late_machine, order, zone))
            elif fault is None:
                known = self._make(order, zone)
        if known is None or zone.hangs or self.is_out:
            self._after_call(lambda: failed(None))
        else:
            machine = known
            self._after_call(lambda: launched(machine.told))

    def _late_machine(self, order: Order, zone: CloudZone) -> None:
        self._make(order, zone)

    def _make(self, order: Order, zone: CloudZone) -> Machine:
        told = Instance(
            f"i-{len(self.machines)}",
            order.pool,
            order.replica,
            order.version,
            order.token,
            order.zone,
            order.market,
            Phase.PENDING,
        )
        machine = self.machines[order.token] = Machine(told)
        self._note("machine", order.replica, f"{told.id} in {order.zone}, {order.market}")
        self._kernel.after(round(self._provision.draw(self._random) * zone.slowness), lambda: self._run(machine, zone))
        return machine

    def _run(self, machine: Machine, zone: CloudZone) -> None:
        if machine.told.phase is not Phase.PENDING:
            return
        machine.told = replace(machine.told, phase=Phase.RUNNING)
        machine.started_ns = machine.billed_ns = self._kernel.now_ns
        machine.runner = self._fleet.start(machine.told, zone.slowness)

    def _settle(self, machine: Machine) -> None:
        if machine.started_ns is not None and machine.is_alive:
            price = self.zones[machine.told.zone].prices.of(machine.told.market)
            machine.usd += price * (self._kernel.now_ns - machine.billed_ns) / HOUR_NS
            machine.billed_ns = self._kernel.now_ns

    def _running(self, zone: str) -> list[Machine]:
        return [machine for machine in self.alive() if machine.told.zone == zone]

    def _after_call(self, call: Call) -> None:
        self._kernel.after(CALL.draw(self._random), call)
