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
from skyfog_pool.policy.view import Load
from skyfog_sim.check import Broken
from skyfog_sim.cluster import Cluster
from skyfog_sim.kernel import NotOver
from skyfog_sim.pool_check import PoolCheck
from skyfog_sim.pool_cloud import CloudZone, Machine, PoolCloud
from skyfog_sim.pool_controller import Controller, Store
from skyfog_sim.pool_draw import RESTORE_NS, PoolDraw
from skyfog_sim.pool_fleet import PoolFleet
from skyfog_sim.pool_inject import PoolInjector

MAX_CALLS = 100_000  # of the kernel, in one history
DOWN_NS = 900 * S  # in which a pool that is taken down is gone
LOOK_NS = 5 * S
WINDOW_NS = 10 * S  # of the load that is told

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
        self.cloud = PoolCloud(self.kernel, random, self.fleet, zones, drawn.provision, self.note, drawn.config)
        self.cloud.on_notice = self._notice
        self.check.cloud = self.cloud
        self.store = Store(drawn.config)
        self.random = random
        self._make_policy = partial(make_policy, drawn)
        self.controller: Controller

    def run(self) -> None:
        """To the last event. Raises Broken."""
        self.controller = self._start()
        for at_ns, robot in self.drawn.fleet.calls:
            self.kernel.at(at_ns, self.cluster.robots[robot].call)
        injector = PoolInjector(self)
        for fault in self.drawn.faults:
            self.kernel.at(fault.at_ns, partial(injector.begin, fault))
        over_ns = self.drawn.over_ns
        self._play(over_ns)
        while not self._is_restored():
            if self.kernel.now_ns > over_ns + RESTORE_NS:
                raise Broken("restored", f"{self._ready()} of {self.controller.policy.target} ready after all faults")
            self._play(self.kernel.now_ns + LOOK_NS)
        self.note("DOWN", "", "the pool is taken down")
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
            self.check.looked(controller.policy, controller.rows, self.cluster)

    def _start(self) -> Controller:
        self.check.controller_began()
        return Controller(self.kernel, self.random, self.store, self.cloud, self._make_policy, self.check, self._load)

    def _load(self) -> Load:
        """What robots have asked lately."""
        since_ns = self.kernel.now_ns - WINDOW_NS
        calls = [at_ns for at_ns, _ in self.drawn.fleet.calls if since_ns < at_ns <= self.kernel.now_ns]
        return Load(WINDOW_NS, len(calls))

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

    # for the injector

    def restart(self) -> None:
        """Whoever watches over the controller starts another."""
        if self.controller.is_dead:
            self.controller = self._start()
        else:
            self.controller.die_at = None  # it had no turn to die in

    def note(self, event: str, replica: object, detail: str) -> None:
        self.history.note(self.kernel.now_ns, event, replica=f"#{replica}" if replica else "", detail=detail)
