"""The pool's policy: the books of all replicas, and when to launch, drain and give back.

An autoscaler says how many replicas are wanted ready (the target), a placement how many beyond that, where and on which
market. This object keeps the books, applies the bounds, and rolls out new versions; it performs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.lifecycle import ENDED, LEAVING, State, step
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.market import (
    BecameReady,
    Launched,
    LaunchFailed,
    LaunchFault,
    Lost,
    MarketEvent,
    Notice,
    Noticed,
    Priced,
    Prices,
    Returned,
    Started,
    Zone,
)
from skyfog_pool.policy.view import Load, Placement, Replica, View


class Scaling(Protocol):
    """Says how many replicas are wanted ready."""

    def target(self, load: Load | None, replicas: Sequence[Replica], now_ns: int) -> int: ...
    def next_timer_ns(self) -> int | None: ...


class PoolPolicy:
    """One pool. Every event returns what is to be done because of it."""

    def __init__(
        self,
        config: ReplicaPolicyConfig,
        zones: Iterable[Zone],
        placement: Placement,
        scaling: Scaling,
        *,
        use_spot: bool = True,
        version: int = 1,
        first_replica: int = 1,
    ) -> None:
        self.config = config
        self.zones = {zone.name: zone for zone in zones}
        self.prices: dict[str, Prices] = {}
        self.replicas: dict[int, Replica] = {}  # those that may hold a machine
        self.version = version
        self.target = config.min_replicas
        self._placement, self._scaling = placement, scaling
        self._use_spot = use_spot
        self._next_replica = first_replica
        self._load: Load | None = None
        self._again_ns: int | None = None
        self._started = False

    # events

    def on_prices(self, prices: Mapping[str, Prices], now_ns: int) -> list[Action]:
        """Zones that a provider tells no prices of are not used; nothing is launched before the first prices."""
        for zone, price in prices.items():
            if self.prices.get(zone) != price:
                self.prices[zone] = price
                self._observe(Priced(zone, price), now_ns)
        return self._decide(now_ns)

    def on_provisioning(self, replica: int, now_ns: int) -> list[Action]:
        """The provider was asked."""
        self._move(replica, State.PROVISIONING, now_ns)
        return []

    def on_started(self, replica: int, now_ns: int) -> list[Action]:
        """Its machine runs."""
        who = self._move(replica, State.STARTING, now_ns)
        who.started_ns = now_ns
        self._observe(Started(who.zone, who.market, now_ns - who.launched_ns), now_ns)
        return self._decide(now_ns)

    def on_ready(self, replica: int, now_ns: int) -> list[Action]:
        who = self._move(replica, State.READY, now_ns)
        if who.ready_ns is None:
            who.ready_ns = now_ns
            self._observe(BecameReady(who.zone, who.market, now_ns - who.launched_ns), now_ns)
        return self._decide(now_ns)

    def on_not_ready(self, replica: int, now_ns: int) -> list[Action]:
        self._move(replica, State.NOT_READY, now_ns)
        return self._decide(now_ns)

    def on_notice(self, replica: int, notice: Notice, now_ns: int) -> list[Action]:
        """The cloud says that a machine is about to go; its replica drains by itself."""
        who = self.replicas[replica]
        if who.notice == notice or who.state in LEAVING:
            return []
        who.notice = notice
        self._observe(Noticed(who.zone, notice.kind), now_ns)
        return self._decide(now_ns)

    def on_preempted(self, replica: int, now_ns: int) -> list[Action]:
        """The market took its machine."""
        who = self.replicas[replica]
        lived_ns = now_ns - (who.started_ns or now_ns)
        noticed = who.notice is not None
        self._end(replica, State.PREEMPTED, now_ns)
        self._observe(Lost(who.zone, lived_ns, noticed), now_ns)
        return self._decide(now_ns)

    def on_launch_failed(self, replica: int, why: LaunchFault, now_ns: int) -> list[Action]:
        """No machine came, for certain."""
        who = self._end(replica, State.FAILED_PROVISION, now_ns)
        self._observe(LaunchFailed(who.zone, who.market, why), now_ns)
        return self._decide(now_ns)

    def on_drained(self, replica: int, now_ns: int) -> list[Action]:
        """Nothing is left to do on it."""
        who = self.replicas[replica]
        if who.state is not State.DRAINING:
            return []
        self._move(replica, State.SHUTTING_DOWN, now_ns)
        return [Terminate(replica, "drained"), *self._decide(now_ns)]

    def on_terminated(self, replica: int, now_ns: int) -> list[Action]:
        """Its machine is gone, as we wished."""
        who = self._end(replica, State.TERMINATED, now_ns)
        if who.started_ns is not None:
            self._observe(Returned(who.zone, who.market, now_ns - who.started_ns), now_ns)
        return self._decide(now_ns)

    def on_load(self, load: Load, now_ns: int) -> list[Action]:
        self._load = load
        for replica, latency_ms in (load.latency_ms or {}).items():
            if replica in self.replicas:
                self.replicas[replica].latency_ms = latency_ms
        return self._decide(now_ns)

    def on_timer(self, now_ns: int) -> list[Action]:
        actions: list[Action] = []
        for who in list(self.replicas.values()):
            if who.state is State.DRAINING and who.drain_by_ns is not None and who.drain_by_ns <= now_ns:
                actions += self.on_drained(who.id, now_ns)
        return actions + self._decide(now_ns)

    def next_timer_ns(self) -> int | None:
        """When to be woken."""
        drains = (who.drain_by_ns for who in self.replicas.values() if who.state is State.DRAINING)
        times = (self._again_ns, self._scaling.next_timer_ns(), *drains)
        return min((time for time in times if time is not None), default=None)

    def check(self) -> None:
        """Raise if the books do not balance."""
        for replica, who in self.replicas.items():
            assert replica == who.id < self._next_replica, who
            assert who.state not in ENDED, who
            assert who.zone in self.zones, who

    # inside

    def view(self) -> View:
        """What strategies see."""
        return View(
            self.target,
            list(self.replicas.values()),
            self.zones,
            self.prices,
            self.config,
            self._use_spot,
            self._load,
        )

    def _decide(self, now_ns: int) -> list[Action]:
        if not self.prices:
            return []
        self.target = self._scaling.target(self._load, list(self.replicas.values()), now_ns)
        plan = self._placement.decide(self.view(), now_ns)
        self._again_ns = plan.again_ns
        actions: list[Action] = []
        for start in plan.start:
            replica = Replica(
                self._next_replica, start.zone, start.market, self.version, State.PENDING, now_ns, launched_ns=now_ns
            )
            self._next_replica += 1
            self.replicas[replica.id] = replica
            self._observe(Launched(start.zone, start.market), now_ns)
            actions.append(Launch(replica.id, start.zone, start.market, self.version, start.because))
        for retire in plan.retire:
            actions += self._retire(retire.replica, retire.because, now_ns)
        return actions

    def _retire(self, replica: int, because: str, now_ns: int) -> list[Action]:
        who = self.replicas[replica]
        if who.state in {State.READY, State.NOT_READY}:
            within_ns = round(self.config.drain_seconds * S)
            self._move(replica, State.DRAINING, now_ns)
            who.drain_by_ns = now_ns + within_ns
            return [Drain(replica, within_ns, because)]
        if who.state is State.PENDING:
            who.state = State.PROVISIONING  # it may have been asked for already: the provider knows
        self._move(replica, State.SHUTTING_DOWN, now_ns)
        return [Terminate(replica, because)]

    def _observe(self, event: MarketEvent, now_ns: int) -> None:
        self._placement.observe(event, now_ns)

    def _move(self, replica: int, state: State, now_ns: int) -> Replica:
        who = self.replicas[replica]
        who.state, who.since_ns = step(who.state, state), now_ns
        return who

    def _end(self, replica: int, state: State, now_ns: int) -> Replica:
        who = self._move(replica, state, now_ns)
        who.ended_ns = now_ns
        del self.replicas[replica]
        return who
