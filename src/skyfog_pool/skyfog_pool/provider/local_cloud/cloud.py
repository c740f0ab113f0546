"""The local cloud: which machines there are, what the market takes, and what goes wrong by order. No HTTP in here."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from skyfog_core.config.base import nearest
from skyfog_core.config.pool_local import LocalOptions, LocalZone
from skyfog_core.rng import stream
from skyfog_pool.policy.market import LaunchFault, Market, NoticeKind, Prices, Zone
from skyfog_pool.provider.base import Ending, Instance, LaunchRefused, Misconfigured, Order
from skyfog_pool.provider.local_cloud.machine import Machine, grace_of
from skyfog_pool.provider.local_cloud.market import Capacity, Constant, capacity_of, zones_of
from skyfog_pool.provider.local_cloud.place import Places

log = structlog.get_logger()

TICK_S = 0.1  # between looks at the market
HOUR_S = 3_600.0
REMEMBERED = 1_000  # machines that are gone and still told of
END_LIMIT_S = 10.0

# error500: no machine, and an error; lost: a machine, and an error; hang: a machine, and no answer
Failure = Literal["capacity", "quota", "rejected", "error500", "lost", "hang"]


@dataclass(slots=True)
class ZoneState:
    """What changes of a zone."""

    options: LocalZone
    capacity: Capacity
    prices: Prices

    def most(self, market: Market, market_s: float) -> int:
        return self.capacity.at(market_s) if market == "spot" else self.options.on_demand_capacity


class Cloud:
    """All in one event loop."""

    def __init__(self, options: LocalOptions, folder: Path, steady_s: Callable[[], float] = time.monotonic) -> None:
        """`folder`: for the machines; what stands in it goes. Raises ConfigError, NetworkError."""
        self.options = options
        self._zones = {
            zone.name: ZoneState(zone, capacity_of(zone, options), Prices(zone.spot_price, zone.on_demand_price))
            for zone in zones_of(options)
        }
        seed = options.seed or 0
        self.places = Places(
            [zone.options for zone in self._zones.values()], options.namespaces, seed, options.notice_source
        )
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder / secrets.token_hex(4)  # what an earlier cloud has left is told apart
        self.folder.mkdir(parents=True)
        self._draw = stream(seed, "local_cloud")
        self._steady_s = steady_s
        self._began_s = self._ticked_s = steady_s()
        self._machines: dict[str, Machine] = {}
        self._by_token: dict[str, str] = {}
        self._failures: deque[tuple[Failure, str]] = deque()
        self._gone: deque[Machine] = deque()
        self.bill: dict[str, float] = {}  # USD by pool

    # what a provider asks

    def zones(self) -> list[Zone]:
        return [Zone(name, zone.options.region, "local") for name, zone in self._zones.items()]

    def prices(self) -> dict[str, Prices]:
        return {name: zone.prices for name, zone in self._zones.items()}

    def launch(self, order: Order) -> tuple[Instance | None, Failure | None]:
        """The machine, and what is to go wrong with the answer. Raises LaunchRefused, Misconfigured."""
        known = self._by_token.get(order.token)
        if known is not None:
            return self._machines[known].instance, None
        zone = self._zone(order.zone)
        failure = self._failure(order.zone)
        if failure == "error500":
            return None, failure
        if failure in {"capacity", "quota", "rejected"}:
            raise LaunchRefused(_fault(failure), f"local: {failure} in {order.zone}, as asked for")
        held = sum(machine.order.market == order.market for machine in self.holding(order.zone))
        most = zone.most(order.market, self._market_s)
        if held >= most:
            raise LaunchRefused(
                "capacity", f"local: {order.zone} has {most} {order.market} machines, and {held} are taken"
            )
        try:
            grace_of(order)
        except ValueError as error:
            raise LaunchRefused("rejected", f"local: the order's environment: {error}") from None
        return self._make(order, zone).instance, failure

    def instances(self, pool: str) -> list[Instance]:
        return [machine.instance for machine in self._machines.values() if machine.order.pool == pool]

    def terminate(self, instance: str) -> None:
        machine = self._machines.get(instance)
        if machine is not None:
            machine.stop(Ending.RETURNED)

    def machine(self, instance: str) -> Machine | None:
        return self._machines.get(instance)

    @property
    def alive(self) -> list[Machine]:
        return [machine for machine in self._machines.values() if machine.lives]

    def holding(self, zone: str) -> list[Machine]:
        """The zone's machines that nobody is taking or giving back."""
        return [machine for machine in self.alive if machine.order.zone == zone and not machine.is_doomed]

    # what can be done to it

    def preempt(self, zone: str, count: int, notice_s: float | None) -> list[str]:
        """The market takes `count` spot machines of a zone, chosen by chance; None: without a word. Returns which.

        Raises Misconfigured for an unknown zone.
        """
        self._zone(zone)
        spot = [machine for machine in self.holding(zone) if machine.order.market == "spot"]
        chosen = self._draw.sample(spot, min(count, len(spot)))
        for machine in chosen:
            self.take(machine, notice_s)
        return [machine.id for machine in chosen]

    def take(self, machine: Machine, notice_s: float | None) -> None:
        """The market takes one machine."""
        log.info("preempts", machine=machine.id, zone=machine.order.zone, notice_s=notice_s)
        if notice_s is None:
            machine.kill(Ending.PREEMPTED)
            return
        machine.give_notice("interruption", notice_s)
        machine.later(notice_s, lambda: machine.stop(Ending.PREEMPTED, self.options.stop_s))

    def warn(self, zone: str, count: int, kind: NoticeKind) -> list[str]:
        """Notices after which nothing happens, e.g. a rebalance recommendation. Raises Misconfigured."""
        self._zone(zone)
        spot = [machine for machine in self.holding(zone) if machine.order.market == "spot"][:count]
        for machine in spot:
            machine.give_notice(kind, self.options.notice_s)
        return [machine.id for machine in spot]

    def set_capacity(self, zone: str, capacity: int) -> None:
        """From now on, whatever the trace says. Raises Misconfigured."""
        self._zone(zone).capacity = Constant(capacity)
        self.tick()

    def set_price(self, zone: str, spot: float) -> None:
        """Raises Misconfigured."""
        state = self._zone(zone)
        state.prices = Prices(spot, state.prices.on_demand)
        for machine in self.alive:
            if machine.order.zone == zone and machine.order.market == "spot":
                machine.price_per_hour = spot

    def fail_next(self, failure: Failure, zone: str) -> None:
        """The next launch in the zone, or in any where it is empty."""
        if zone:
            self._zone(zone)
        self._failures.append((failure, zone))

    def check_zone(self, zone: str) -> None:
        """Raises Misconfigured where there is none of the name."""
        self._zone(zone)

    # time

    def tick(self) -> None:
        """Charge for what runs, and take what the market no longer gives."""
        now_s = self._steady_s()
        for machine in self.alive:
            self._charge(machine, now_s - self._ticked_s)
        self._ticked_s = now_s
        for name, zone in self._zones.items():
            spot = [machine for machine in self.holding(name) if machine.order.market == "spot"]
            excess = len(spot) - zone.capacity.at(self._market_s)
            if excess > 0:
                told = self._draw.random() < self.options.notices
                self.preempt(name, excess, self.options.notice_s if told else None)

    async def end(self) -> None:
        """End all machines and the network."""
        machines = self.alive
        for machine in machines:
            machine.stop(Ending.RETURNED, self.options.stop_s)
        until_s = self._steady_s() + END_LIMIT_S + self.options.stop_s
        while self.alive and self._steady_s() < until_s:  # noqa: ASYNC110  # each tells when it is gone, all do not
            await asyncio.sleep(TICK_S / 2)
        await asyncio.gather(*(machine.closed() for machine in machines))
        self.places.close()
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    # inside

    @property
    def _market_s(self) -> float:
        return (self._steady_s() - self._began_s) * self.options.speed

    def _zone(self, name: str) -> ZoneState:
        if name not in self._zones:
            raise Misconfigured(
                f"local: no zone {name!r}{nearest(name, list(self._zones))} (there are: {', '.join(self._zones)})"
            )
        return self._zones[name]

    def _make(self, order: Order, zone: ZoneState) -> Machine:
        machine = Machine(
            order, self.folder, self.places.place(order.zone), zone.prices.of(order.market), self._on_gone
        )
        self._machines[machine.id] = machine
        self._by_token[order.token] = machine.id
        if self.options.cold_start_s:
            machine.later(self.options.cold_start_s, lambda: self._boot(machine))
        else:
            self._boot(machine)
        return machine

    def _boot(self, machine: Machine) -> None:
        if not machine.lives:
            return
        try:
            machine.boot()
        except OSError as error:
            log.exception("no_boot", machine=machine.id)
            machine.failed(str(error))

    def _charge(self, machine: Machine, seconds: float) -> None:
        usd = machine.price_per_hour * seconds / HOUR_S
        self.bill[machine.order.pool] = self.bill.get(machine.order.pool, 0.0) + usd

    def _on_gone(self, machine: Machine) -> None:
        log.info("gone", machine=machine.id, zone=machine.order.zone, ending=machine.ending)
        self._gone.append(machine)
        while len(self._gone) > REMEMBERED:
            oldest = self._gone.popleft()
            oldest.forget()
            del self._machines[oldest.id], self._by_token[oldest.order.token]

    def _failure(self, zone: str) -> Failure | None:
        for index, (failure, where) in enumerate(self._failures):
            if where in {"", zone}:
                del self._failures[index]
                return failure
        return None


def _fault(failure: Failure) -> LaunchFault:
    if failure in {"capacity", "quota", "rejected"}:
        return failure
    return "error"
