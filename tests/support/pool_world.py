"""A pool's Keeper in a world that a test moves by hand: a cloud in memory, a store on disk, and crashes where it says.

One step is a second. Every commit and every provider call is two points at which the controller may die: before it,
and after it and before anybody learns of it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from skyfog_core.config.base import parse
from skyfog_core.config.pool import ServiceSpec
from skyfog_core.units import S
from skyfog_pool.keeper import Keeper
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.market import Zone
from skyfog_pool.provider.base import CannotTell, Instance, LaunchRefused, Order, Phase, ProviderError
from skyfog_pool.readiness import Verdict
from skyfog_pool.spec import runs_hash, to_store
from skyfog_pool.store import Row, Stamp, Store
from skyfog_pool.wishes import Wishes
from skyfog_pool.work import Ask, Effect, GiveBack, Outside
from support.fake_cloud import FakeCloud, FakeProvider

POOL = "detect"


class Crash(BaseException):
    """The controller is killed here."""


class Points:
    """Counts the points at which a controller may die, and kills it at those that are wished."""

    def __init__(self, crash_at: Sequence[int] = ()) -> None:
        self.passed = 0
        self._crash_at = set(crash_at)

    def point(self) -> None:
        self.passed += 1
        if self.passed - 1 in self._crash_at:
            raise Crash


class QuickStore(Store):
    """A store that waits for no disk: processes die here, not the machine."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._db.execute("PRAGMA synchronous = OFF")


class CrashingStore(QuickStore):
    """A store that may die before a commit and after it."""

    def __init__(self, path: Path, points: Points) -> None:
        super().__init__(path)
        self._points = points

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
            self._points.point()
        self._points.point()


def spec_of(**changes: Any) -> ServiceSpec:
    """Three replicas on spot machines, as published."""
    policy = {
        "min_replicas": 3,
        "num_overprovision": 0,
        "spot_placer": "spothedge",
        "dynamic_ondemand_fallback": False,
        "drain_seconds": 2.0,
        **changes.pop("policy", {}),
    }
    values = {
        "service": {"replica_policy": policy, "readiness_probe": {"initial_delay_seconds": 60.0}},
        "resources": {"use_spot": True},
        "run": "serve",
        **changes,
    }
    return parse(ServiceSpec, values, "test")


class World:
    """All of it."""

    def __init__(self, folder: Path, crash_at: Sequence[int] = (), spec: ServiceSpec | None = None) -> None:
        self.path = folder / "pool.sqlite"
        self._reader = QuickStore(self.path)
        self.now_ns = 1_000 * S
        self.points = Points(crash_at)
        self.cloud = FakeCloud(now_s=lambda: self.now_ns / S)
        self.crashes = 0
        self.deaf: set[int] = set()  # replicas that answer no probe
        self.errors: list[str] = []
        self.foreign: set[str] = set()  # tokens of machines that the pool never asked for
        self._tokens = itertools.count(1)
        self._offset_ns = 0  # of the steady clock of this boot
        self.boot = "first"
        self.ask_for(spec or spec_of())
        self.keeper: Keeper | None = None

    # the command line's part

    def ask_for(self, spec: ServiceSpec) -> None:
        with self._reader.transaction():
            self._reader.set_meta("wish", "up")
            self._reader.add_revision(runs_hash(spec), to_store(spec), "test", 0.0)

    def take_down(self) -> None:
        with self._reader.transaction():
            self._reader.set_meta("wish", "down")

    # the controller's part

    def steps(self, count: int, until: Callable[[], bool] = lambda: False) -> bool:
        """So many seconds, or until something holds: then True. A controller that dies is started again."""
        for _ in range(count):
            if until():
                return True
            try:
                self._step()
            except Crash:
                self.crashes += 1
                self._close()
            self.now_ns += S
        return until()

    def stray(self, replica: int) -> None:
        """A machine with the pool's tag that no row knows, as a store that was lost leaves behind."""
        self.foreign.add(f"stray-{replica}")
        self.cloud.make(Order(POOL, replica, 1, f"stray-{replica}", self.cloud.zones[0], "spot"))

    def kill(self) -> None:
        """The controller, between two of its steps."""
        self._close()

    def carry_out(self, effects: Sequence[Effect]) -> None:
        assert self.keeper is not None
        self._call(self.keeper, effects)

    def close(self) -> None:
        self._close()
        self._reader.close()

    def _step(self) -> None:
        provider = FakeProvider(self.cloud)
        if self.keeper is None:
            self.keeper = self._start(provider)
        keeper = self.keeper
        self._call(keeper, self._listed(provider))
        if not keeper.has_begun:
            self._call(keeper, keeper.begin(self.now_ns))
        wished = Wishes(self.store).revision != keeper.wishes.revision or self.store.wish() != keeper.wishes.wish
        if wished:
            self._call(keeper, keeper.on_wish(zones(provider), self.now_ns))
        self._call(keeper, keeper.on_prices(provider.prices(), self.now_ns))
        for replica, work in list(keeper.work.items()):
            machine = self.cloud.machines.get(work.row.instance)
            if machine is not None and machine.phase is Phase.RUNNING:
                ok = replica not in self.deaf
                self._call(keeper, keeper.on_probe(replica, ok, "" if ok else "deaf", self.now_ns))
        self._call(keeper, keeper.on_timer(self.now_ns))
        keeper.policy.check()
        self.check()

    def _start(self, provider: FakeProvider) -> Keeper:
        self.store = CrashingStore(self.path, self.points)
        outside = Outside(lambda: self.now_ns / S, self._stamp, lambda: f"token-{next(self._tokens)}")
        return Keeper(POOL, self.store, zones(provider), outside, self.now_ns)

    def _listed(self, provider: FakeProvider) -> list[Effect]:
        keeper = self.keeper
        assert keeper is not None
        self.points.point()
        try:
            machines = provider.instances(POOL)
        except ProviderError as error:
            self.errors.append(str(error))
            return []
        return keeper.on_listing(machines, self.now_ns, self.now_ns, 5 * S)

    def _call(self, keeper: Keeper, effects: Sequence[Effect]) -> None:
        """Carry out effects, and what comes of them, in order."""
        provider, queue = FakeProvider(self.cloud), deque(effects)
        while queue:
            effect = queue.popleft()
            self.points.point()
            match effect:
                case Ask():
                    queue.extend(self._ask(keeper, provider, effect))
                case GiveBack(replica=replica, instance=instance):
                    why = ""
                    try:
                        provider.terminate(instance)
                    except ProviderError as error:
                        why = str(error)
                    self.points.point()
                    queue.extend(keeper.on_given_back(replica, instance, why, self.now_ns))

    def _ask(self, keeper: Keeper, provider: FakeProvider, effect: Ask) -> list[Effect]:
        try:
            machine = provider.launch(effect.order)
        except LaunchRefused as error:
            self.points.point()
            return keeper.on_launch_refused(effect.replica, error.fault, str(error), self.now_ns)
        except CannotTell as error:
            self.points.point()
            return keeper.on_launch_unknown(effect.replica, str(error), self.now_ns)
        self.points.point()
        return keeper.on_launched(effect.replica, machine, self.now_ns)

    def _close(self) -> None:
        if self.keeper is not None:
            self.store.close()
        self.keeper = None

    def _stamp(self, now_ns: int) -> Stamp:
        return Stamp(self.boot, now_ns, now_ns / S)

    # what holds

    def rows(self, live: bool = True) -> list[Row]:
        return self._reader.replicas(live=live)

    def check(self) -> None:
        """At every step: no replica twice, and no machine that is nobody's for long."""
        alive = self.cloud.alive
        tokens = [machine.token for machine in alive]
        assert len(tokens) == len(set(tokens)), alive
        known = {row.token for row in self.rows(live=False)}
        assert set(tokens) - self.foreign <= known, "a machine was asked for before its decision was written"
        replicas = [machine.replica for machine in alive if machine.token not in self.foreign]
        assert len(replicas) == len(set(replicas)), "one replica has two machines"

    def settled(self) -> bool:
        """Books and cloud agree: every live replica is READY with one running machine, and there are no others."""
        rows = self.rows()
        machines = {machine.token: machine for machine in self.cloud.alive}
        return (
            self.keeper is not None
            and all(row.state is State.READY for row in rows)
            and {row.token for row in rows} == machines.keys()
            and all(machines[row.token].id == row.instance for row in rows)
        )

    def at_target(self, replicas: int) -> bool:
        return self.settled() and len(self.rows()) == replicas

    def is_down(self) -> bool:
        return self.keeper is not None and self.keeper.is_down and not self.cloud.alive


def zones(provider: FakeProvider) -> list[Zone]:
    return provider.zones()


def running(world: World) -> list[Instance]:
    return sorted((machine for machine in world.cloud.alive if machine.phase is Phase.RUNNING), key=lambda m: m.id)


def dump(world: World) -> str:
    """For a failed assertion."""
    rows = "\n".join(str(row) for row in world.rows(live=False))
    return f"{rows}\n{world.cloud.alive}\n{json.dumps(world.errors)}"


__all__ = ["POOL", "Crash", "Verdict", "World", "dump", "running", "spec_of"]
