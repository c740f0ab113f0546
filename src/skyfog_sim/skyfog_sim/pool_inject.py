"""Performs a pool's faults, and undoes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from skyfog_core.units import S
from skyfog_sim.pool_cloud import CloudZone
from skyfog_sim.pool_controller import LISTING_NS, DieAt
from skyfog_sim.pool_draw import PoolFault, PoolFaultKind

if TYPE_CHECKING:
    from skyfog_sim.pool_world import PoolWorld

NOTICE_NS = (4 * S, 16 * S)  # cold starts are short here, and so are notices; the longer leaves time to serve on
DIES: dict[PoolFaultKind, DieAt] = {"crash_before": "before_commit", "crash_after": "after_commit"}

Undo = Callable[[], None]


class PoolInjector:
    """`begin` performs a fault; what can be undone is, after its time."""

    def __init__(self, world: PoolWorld) -> None:
        self._world, self._cloud = world, world.cloud
        self._of_kind: dict[PoolFaultKind, Callable[[PoolFault], Undo | None]] = {
            "preempt": lambda fault: self._cloud.take(fault.zone, round(fault.amount), 0),
            "notice": lambda fault: self._cloud.take(fault.zone, round(fault.amount), NOTICE_NS[fault.for_ns % 2]),
            "rebalance": self._rebalance,
            "capacity": self._capacity,
            "partition": self._partition,
            "quota": lambda fault: self._set(self._zone(fault), "fault", "quota", None),
            "error": lambda fault: self._set(self._zone(fault), "fault", "error", None),
            "hang": lambda fault: self._set(self._zone(fault), "hangs", True, False),
            "outage": self._outage,
            "crash": self._crash,
            "crash_before": self._crash,
            "crash_after": self._crash,
            "slow": lambda fault: self._set(self._zone(fault), "slowness", fault.amount, 1.0),
            "failing": lambda _fault: self._set(world.fleet, "is_failing", True, False),
            "kill": self._kill,
            "price": self._price,
            "spec": self._spec,
        }

    def begin(self, fault: PoolFault) -> None:
        self._world.faults_met[fault.kind] += 1
        self._world.note("FAULT", "", str(fault))
        undo = self._of_kind[fault.kind](fault)
        if undo is not None:
            self._world.kernel.after(fault.for_ns, partial(self._end, fault, undo))

    def _end(self, fault: PoolFault, undo: Undo) -> None:
        self._world.note("healed", "", str(fault))
        undo()

    def _zone(self, fault: PoolFault) -> CloudZone:
        return self._cloud.zones[fault.zone]

    def _drawn(self, fault: PoolFault) -> CloudZone:
        """The zone as it was in the beginning."""
        return next(each for each in self._world.drawn.zones if each.zone.name == fault.zone)

    def _set(self, what: object, name: str, value: object, usual: object) -> Undo:
        setattr(what, name, value)
        return partial(setattr, what, name, usual)

    # the market

    def _rebalance(self, fault: PoolFault) -> None:
        for machine in self._cloud.spot(fault.zone)[: round(fault.amount)]:
            self._cloud.warn(machine, "rebalance", None)

    def _capacity(self, fault: PoolFault) -> Undo:
        self._cloud.shrink(fault.zone, round(fault.amount), (0, *NOTICE_NS)[fault.for_ns % 3])
        return partial(setattr, self._zone(fault), "capacity", self._drawn(fault).capacity)

    def _price(self, fault: PoolFault) -> Undo:
        usual = self._drawn(fault).prices.spot
        self._reprice(fault.zone, round(usual * fault.amount, 4))
        return partial(self._reprice, fault.zone, usual)

    def _reprice(self, zone: str, spot: float) -> None:
        self._world.check.blind_ns += LISTING_NS  # until the controller looks again
        self._cloud.reprice(zone, spot)

    # the provider, the network, the service

    def _outage(self, fault: PoolFault) -> Undo:
        self._world.check.blind_ns += fault.for_ns + LISTING_NS  # a listing that fails is not asked for again at once
        return self._set(self._cloud, "is_out", True, False)

    def _partition(self, fault: PoolFault) -> Undo:
        self._world.fleet.partition(fault.zone, True)
        return partial(self._world.fleet.partition, fault.zone, False)

    def _kill(self, _fault: PoolFault) -> None:
        runners = [machine.runner for machine in self._cloud.alive() if machine.runner is not None]
        if runners:
            self._world.random.choice(runners).fail()

    # the controller

    def _crash(self, fault: PoolFault) -> Undo:
        controller = self._world.controller
        if fault.kind in DIES:
            controller.die_at = DIES[fault.kind]
        elif not controller.is_dead:
            controller.kill()
        return self._world.restart

    def _spec(self, fault: PoolFault) -> None:
        """Another number, another version, or both."""
        store, least, what = self._world.store, round(fault.amount), fault.for_ns % 3
        if what != 0:
            store.version += 1
        if what != 1:
            base = min(least, store.config.base_ondemand_fallback_replicas)
            store.config = store.config.model_copy(
                update={"min_replicas": least, "base_ondemand_fallback_replicas": base}
            )
        self._world.controller.wish()
