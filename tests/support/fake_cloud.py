"""A cloud in memory: what a provider's double and its double's tests share. Faults are set, never drawn."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from skyfog_pool.policy.market import Market, NoticeKind, Prices, Zone
from skyfog_pool.provider.base import (
    CannotTell,
    Ending,
    Instance,
    LaunchRefused,
    Misconfigured,
    Order,
    Phase,
    Unavailable,
)

# lost: the machine comes, and the answer does not; hang: neither, within the provider's limit
Fault = Literal["capacity", "quota", "rejected", "error", "lost", "hang"]
ZONES = ("zone-a", "zone-b", "zone-c")


@dataclass
class FakeCloud:
    """What outlives every client: machines, by id. `slow`: a machine is PENDING until run() is called."""

    zones: tuple[str, ...] = ZONES
    slow: bool = False
    now_s: Callable[[], float] = lambda: 0.0
    machines: dict[str, Instance] = field(default_factory=dict)
    prices: dict[str, Prices] = field(default_factory=dict)
    faults: deque[tuple[Fault, str]] = field(default_factory=deque)  # of the next launches, in a zone; empty: in any
    outage: Literal["", "error", "hang"] = ""  # of every call
    endpoint: Callable[[Order, str], str] = lambda _order, _id: "http://127.0.0.1:9"
    on_launch: Callable[[Order], None] = lambda _order: None
    calls: Counter[str] = field(default_factory=Counter)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        for index, zone in enumerate(self.zones):
            self.prices.setdefault(zone, Prices(0.10 + 0.01 * index, 0.40))

    @property
    def alive(self) -> list[Instance]:
        """Machines that exist and cost."""
        with self.lock:
            return [machine for machine in self.machines.values() if machine.phase is not Phase.GONE]

    def fail(self, fault: Fault, zone: str = "") -> None:
        self.faults.append((fault, zone))

    def run(self) -> None:
        """Every machine that was asked for comes to run."""
        with self.lock:
            for machine in self.alive:
                if machine.phase is Phase.PENDING:
                    self.machines[machine.id] = replace(machine, phase=Phase.RUNNING)

    def settle(self) -> None:
        """Machines that were given back are gone."""
        with self.lock:
            for machine in self.alive:
                if machine.phase is Phase.STOPPING:
                    self._gone(machine, Ending.RETURNED)

    def preempt(self, instance: str) -> None:
        with self.lock:
            self._gone(self.machines[instance], Ending.PREEMPTED)

    def crash(self, instance: str) -> None:
        """A machine ends by itself."""
        with self.lock:
            self._gone(self.machines[instance], Ending.FAILED)

    def notice(self, instance: str, kind: NoticeKind = "interruption", goes_unix_s: float | None = None) -> None:
        with self.lock:
            self.machines[instance] = replace(self.machines[instance], notice=kind, goes_unix_s=goes_unix_s)

    def forget(self) -> None:
        """Machines that are gone are told no more, as clouds do after an hour."""
        with self.lock:
            self.machines = {machine.id: machine for machine in self.alive}

    def make(self, order: Order) -> Instance:
        """The machine of a token: the one that is there, or a new one."""
        with self.lock:
            for machine in self.machines.values():
                if machine.token == order.token:
                    return machine
            number = next(self._ids)
            self.on_launch(order)
            machine = Instance(
                f"i-{number}",
                order.pool,
                order.replica,
                order.version,
                order.token,
                order.zone,
                order.market,
                Phase.PENDING if self.slow else Phase.RUNNING,
                endpoint=self.endpoint(order, f"i-{number}"),
                launched_unix_s=self.now_s(),
                price_per_hour=self.prices[order.zone].of(order.market),
            )
            self.machines[machine.id] = machine
            return machine

    def _gone(self, machine: Instance, why: Ending) -> None:
        self.machines[machine.id] = replace(machine, phase=Phase.GONE, ending=why)


class FakeProvider:
    """A client of a FakeCloud, with Provider's contract."""

    name = "fake"

    def __init__(self, cloud: FakeCloud) -> None:
        self.cloud = cloud

    def zones(self) -> list[Zone]:
        self._call("zones")
        return [Zone(name, name.rpartition("-")[0], "fake") for name in self.cloud.zones]

    def prices(self) -> Mapping[str, Prices]:
        self._call("prices")
        return dict(self.cloud.prices)

    def launch(self, order: Order) -> Instance:
        self._call("launch")
        if order.zone not in self.cloud.zones:
            raise Misconfigured(f"fake: no zone {order.zone!r}; there are {', '.join(self.cloud.zones)}")
        match self._fault(order.zone):
            case "":
                return self.cloud.make(order)
            case "lost":
                self.cloud.make(order)
                raise CannotTell("fake: the answer was lost")
            case "error" | "hang":
                raise Unavailable("fake: 500")
            case fault:
                raise LaunchRefused(fault, f"fake: {fault} in {order.zone}")

    def instances(self, pool: str) -> list[Instance]:
        self._call("instances")
        with self.cloud.lock:
            return [machine for machine in self.cloud.machines.values() if machine.pool == pool]

    def terminate(self, instance: str) -> None:
        self._call("terminate")
        with self.cloud.lock:
            machine = self.cloud.machines.get(instance)
            if machine is None or machine.phase is Phase.GONE:
                return
            self.cloud.machines[instance] = replace(machine, phase=Phase.STOPPING)
            if not self.cloud.slow:
                self.cloud.settle()

    def logs(self, instance: str, lines: int) -> Iterator[str]:
        yield from [f"{instance} line {number}" for number in range(lines)]

    def close(self) -> None:
        pass

    def _call(self, name: str) -> None:
        self.cloud.calls[name] += 1
        if self.cloud.outage:
            raise Unavailable(f"fake: {self.cloud.outage}")

    def _fault(self, zone: str) -> Fault | Literal[""]:
        for index, (fault, where) in enumerate(self.cloud.faults):
            if where in {"", zone}:
                del self.cloud.faults[index]
                return fault
        return ""


def of_market(machines: list[Instance], market: Market) -> list[Instance]:
    return [machine for machine in machines if machine.market == market]
