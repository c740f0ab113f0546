"""Pool and router in one world: replicas that the pool launches answer what robots ask, while both are struck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from skyfog_core.rng import stream
from skyfog_core.units import S
from skyfog_pool.policy.demand import Demand
from skyfog_pool.policy.market import Notice
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_sim.check import Broken
from skyfog_sim.cluster import Cluster
from skyfog_sim.kernel import NotOver
from skyfog_sim.pool_check import PoolCheck
from skyfog_sim.pool_cloud import CloudZone, Machine, PoolCloud
from skyfog_sim.pool_controller import Controller, DieAt, Store
from skyfog_sim.pool_draw import RESTORE_NS, PoolDraw, PoolFault
from skyfog_sim.pool_fleet import PoolFleet

MAX_CALLS = 100_000  # of the kernel, in one history
DOWN_NS = 900 * S  # in which a pool that is taken down is gone
NOTICE_NS = 4 * S  # cold starts are short here, and so are notices
LOOK_NS = 5 * S

MakePolicy = Callable[[PoolDraw, Store], PoolPolicy]


def production_policy(drawn: PoolDraw, store: Store) -> PoolPolicy:
    """The policy as the controller makes it."""
    zones = [each.zone for each in drawn.zones]
    return PoolPolicy(
        store.config,
        zones,
        PLACEMENTS[drawn.placement](zones),
        Demand(store.config),
        use_spot=store.use_spot,
        version=store.version,
    )


class PoolWorld:
    """Plays one draw. Other policies than production's are for tests of the invariants."""

    def __init__(self, drawn: PoolDraw, make_policy: MakePolicy = production_policy) -> None:
        self.drawn = drawn
        self.cluster = Cluster(drawn.fleet)
        self.kernel, self.history = self.cluster.kernel, self.cluster.history
        self.check = PoolCheck(self.kernel, self.history)
        self.faults_met: Counter[str] = Counter()
        random = stream(drawn.seed, "pool world")
        self.fleet = PoolFleet(self.cluster, random, drawn.warm_up, drawn.replica, drawn.link)
        zones = [CloudZone(each.zone, each.capacity, each.prices) for each in drawn.zones]
        self.cloud = PoolCloud(self.kernel, random, self.fleet, zones, drawn.provision, self._note)
        self.cloud.on_notice = self._notice
        self.check.cloud = self.cloud
        self.store = Store(drawn.config)
        self._random = random
        self._make_policy = partial(make_policy, drawn)
        self.controller = self._start()

    def run(self) -> None:
        """To the last event. Raises Broken."""
        for at_ns, robot in self.drawn.fleet.calls:
            self.kernel.at(at_ns, self.cluster.robots[robot].call)
        for fault in self.drawn.faults:
            self.kernel.at(fault.at_ns, partial(self._begin, fault))
        over_ns = self.drawn.over_ns
        self._play(over_ns)
        while not self._is_restored():
            if self.kernel.now_ns > over_ns + RESTORE_NS:
                raise Broken("restored", f"{self._ready()} of {self.controller.policy.target} ready after all faults")
            self._play(self.kernel.now_ns + LOOK_NS)
        self._note("DOWN", "", "the pool is taken down")
        self.store.wish = "down"
        self.controller.wish()
        down_ns = self.kernel.now_ns + DOWN_NS
        while self.cloud.alive() or self.controller.policy.replicas:
            if self.kernel.now_ns > down_ns:
                break
            self._play(self.kernel.now_ns + LOOK_NS)
        self.check.at_end(self.controller.policy)
        self.controller.is_dead = True
        self._play(None)
        self.cluster.check.at_end(self.cluster.robots, self.cluster.processes)

    def _play(self, until_ns: int | None) -> None:
        try:
            self.kernel.run(until_ns, limit=MAX_CALLS, after_each=self._after_each)
        except NotOver as error:
            raise Broken("leak", str(error)) from None
        except AssertionError as error:
            raise Broken("books", str(error)) from error

    def _after_each(self) -> None:
        self.cluster.check.event_over()
        controller = self.controller
        if not controller.is_dead:
            self.check.looked(controller.policy, controller.rows)

    def _start(self) -> Controller:
        self.check.controller_began()
        return Controller(self.kernel, self._random, self.store, self.cloud, self._make_policy, self.check)

    def _restart(self) -> None:
        """Whoever watches over the controller starts another."""
        if self.controller.is_dead:
            self.controller = self._start()
        else:
            self.controller.die_at = None  # it had no turn to die in

    def _ready(self) -> int:
        """As the world has it: machines whose service answers."""
        return sum(
            machine.runner is not None and machine.runner.answers and machine.runner.is_reached
            for machine in self.cloud.alive()
        )

    def _is_restored(self) -> bool:
        policy = self.controller.policy
        versions = {who.version for who in policy.replicas.values()}
        seen = policy.view().ready() >= policy.target and self._ready() >= policy.target
        return not self.controller.is_dead and self.controller.has_begun and seen and versions <= {self.store.version}

    def _notice(self, machine: Machine, notice: Notice) -> None:
        self.controller.hear_notice(machine, notice)

    # faults

    def _begin(self, fault: PoolFault) -> None:
        self.faults_met[fault.kind] += 1
        self._note("FAULT", "", str(fault))
        undo = self._of_kind(fault, self.cloud.zones[fault.zone])
        if undo is not None:
            self.kernel.after(fault.for_ns, lambda: self._end(fault, undo))

    def _end(self, fault: PoolFault, undo: Callable[[], None]) -> None:
        self._note("healed", "", str(fault))
        undo()

    def _of_kind(self, fault: PoolFault, zone: CloudZone) -> Callable[[], None] | None:
        name, amount = fault.zone, fault.amount
        match fault.kind:
            case "preempt":
                self.cloud.take(name, round(amount), 0)
            case "notice":
                self.cloud.take(name, round(amount), NOTICE_NS)
            case "rebalance":
                for machine in self.cloud.spot(name)[: round(amount)]:
                    self.cloud.warn(machine, "rebalance", None)
            case "capacity":
                before, zone.capacity = zone.capacity, round(amount)
                self.cloud.shrink(name, round(amount), NOTICE_NS if fault.for_ns % 2 else 0)
                return partial(setattr, zone, "capacity", max(before, 1))
            case "partition":
                self.fleet.partition(name, True)
                return partial(self.fleet.partition, name, False)
            case "quota" | "error":
                zone.fault = fault.kind
                return partial(setattr, zone, "fault", None)
            case "hang":
                zone.hangs = True
                return partial(setattr, zone, "hangs", False)
            case "outage":
                self.cloud.is_out = True
                return partial(setattr, self.cloud, "is_out", False)
            case "crash" | "crash_before" | "crash_after":
                return self._crash(fault)
            case "slow":
                zone.slowness = amount
                return partial(setattr, zone, "slowness", 1.0)
            case "failing":
                self.fleet.is_failing = True
                return partial(setattr, self.fleet, "is_failing", False)
            case "kill":
                self._kill_one()
            case "price":
                before_usd = zone.prices.spot
                self.cloud.reprice(name, round(before_usd * amount, 4))
                return partial(self.cloud.reprice, name, before_usd)
            case "spec":
                self._respec(round(amount), fault.for_ns % 3)
        return None

    def _crash(self, fault: PoolFault) -> Callable[[], None]:
        dies: dict[str, DieAt] = {"crash_before": "before_commit", "crash_after": "after_commit"}
        if fault.kind == "crash":
            if not self.controller.is_dead:
                self.controller.kill()
        else:
            self.controller.die_at = dies[fault.kind]
        return self._restart

    def _kill_one(self) -> None:
        runners = [machine.runner for machine in self.cloud.alive() if machine.runner is not None]
        if runners:
            self._random.choice(runners).fail()

    def _respec(self, least: int, kind: int) -> None:
        """Another number, another version, or both."""
        if kind != 0:
            self.store.version += 1
        if kind != 1:
            base = min(least, self.store.config.base_ondemand_fallback_replicas)
            self.store.config = self.store.config.model_copy(
                update={"min_replicas": least, "base_ondemand_fallback_replicas": base}
            )
        self.controller.wish()

    def _note(self, event: str, replica: object, detail: str) -> None:
        self.history.note(self.kernel.now_ns, event, replica=f"#{replica}" if replica else "", detail=detail)
