"""The pool's policy: the books of all replicas, and when to launch, drain and give back.

An autoscaler says how many replicas are wanted ready (the target), a placement how many beyond that, where and on which
market. This object keeps the books, applies the bounds, waits after failures, and rolls out new versions; it performs
nothing. What it is told twice, too late, or of a replica that is gone is ignored: providers do all of that.

Bounds. Of use or on the way there are never more replicas than `most_held`: the most that may be wanted, the
over-provision (as many again where the placement chooses it), the on-demand stand-ins, and the surge. With those that
leave, and those that a provider does not take back, there are never more machines than twice that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.lifecycle import FAILURES, LAUNCHING, LEAVING, SERVING, State
from skyfog_pool.policy import doomed, restart, rollout
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.backoff import CLEANUP_S, Failing, Gates, pause_ns
from skyfog_pool.policy.demand import Scaling
from skyfog_pool.policy.ledger import Ledger
from skyfog_pool.policy.market import (
    BecameReady,
    Launched,
    LaunchFailed,
    LaunchFault,
    Lost,
    Market,
    MarketEvent,
    Notice,
    Noticed,
    Priced,
    Prices,
    Returned,
    Started,
    Zone,
)
from skyfog_pool.policy.view import Load, Placement, Plan, Replica, View

ASK_AGAIN_NS = 600 * S  # a machine that is not reported gone by then is asked back again


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
        self.ledger = Ledger(first_replica)
        self.replicas: Mapping[int, Replica] = self.ledger.replicas  # those that may hold a machine
        self.version = version
        self.target = config.min_replicas
        self.gates = Gates()
        self.failing = Failing()
        self.is_going_down = False
        self.holding = ""  # why less is launched than was wanted just now
        self.placement, self.scaling = placement, scaling
        self.use_spot = use_spot
        self.now_ns = 0  # of the newest event
        self._load: Load | None = None
        self._again_ns: int | None = None
        self._older = (0, 0)  # held and machines that an older spec allowed: above the bounds until they are gone

    # events: the world outside

    def on_prices(self, prices: Mapping[str, Prices], now_ns: int) -> list[Action]:
        """Zones that a provider tells no prices of are not used; nothing is launched before the first prices."""
        for zone, price in prices.items():
            if zone in self.zones and self.prices.get(zone) != price:
                self.prices[zone] = price
                self.ledger.reprice(zone, price, now_ns)
                self._observe(Priced(zone, price), now_ns)
        return self._decide(now_ns)

    def on_load(self, load: Load, now_ns: int) -> list[Action]:
        self._load = load
        for replica, latency_ms in (load.latency_ms or {}).items():
            if replica in self.replicas:
                self.replicas[replica].latency_ms = latency_ms
        return self._decide(now_ns)

    def on_spec(
        self,
        config: ReplicaPolicyConfig,
        use_spot: bool,
        version: int,
        now_ns: int,
        *,
        zones: Iterable[Zone] | None = None,
        placement: Placement | None = None,
    ) -> list[Action]:
        """Another service file. Another version rolls out, the same one goes on under the new policy.

        `placement`: a new strategy, where another is named; `zones`: where machines may be from now on.
        """
        if version != self.version:
            self.failing.clear()
        self.config, self.use_spot, self.version = config, use_spot, version
        self.is_going_down = False
        self.gates.clear()
        self.scaling.reconfigure(config)
        if zones is not None:
            self.zones = {zone.name: zone for zone in zones}
            self.prices = {zone: price for zone, price in self.prices.items() if zone in self.zones}
        if placement is not None:
            self.placement = placement
            for zone, price in self.prices.items():
                self._observe(Priced(zone, price), now_ns)
        self._older = (self.ledger.held(), len(self.replicas))
        return self._decide(now_ns)

    def down(self, now_ns: int) -> list[Action]:
        """Everything is drained and given back. Again and again is as once."""
        self.is_going_down, self.target = True, 0
        return self._decide(now_ns)

    def on_timer(self, now_ns: int) -> list[Action]:
        actions: list[Action] = []
        for who in list(self.replicas.values()):
            if who.state is State.DRAINING and who.drain_by_ns is not None and who.drain_by_ns <= now_ns:
                actions += self._give_back(who, "its time to drain is over", now_ns)
            elif who.retry_ns is not None and who.retry_ns <= now_ns:
                if who.state is State.FAILED_CLEANUP:
                    self.ledger.move(who, State.SHUTTING_DOWN, now_ns)
                who.retry_ns = now_ns + ASK_AGAIN_NS
                actions.append(Terminate(who.id, "the provider has not taken it back yet"))
        return actions + self._decide(now_ns)

    # events: one replica

    def on_provisioning(self, replica: int, now_ns: int) -> list[Action]:
        """The provider was asked."""
        who = self.ledger.find(replica, {State.PENDING, State.UNKNOWN})
        if who is not None:
            self.ledger.move(who, State.PROVISIONING, now_ns)
        return []

    def on_started(self, replica: int, now_ns: int) -> list[Action]:
        """Its machine runs, and costs: also one that we have asked back before it came."""
        who = self.ledger.find(replica, LAUNCHING | LEAVING | {State.UNKNOWN, State.FAILED_CLEANUP})
        if who is None:
            return []
        self._begin(who, now_ns)
        if who.state in {State.PENDING, State.PROVISIONING, State.UNKNOWN}:
            self.ledger.move(who, State.STARTING if who.ready_ns is None else State.NOT_READY, now_ns)
        return self._decide(now_ns)

    def on_ready(self, replica: int, now_ns: int) -> list[Action]:
        who = self.ledger.find(replica, SERVING - {State.READY} | {State.UNKNOWN})
        if who is None:
            return []
        self._begin(who, now_ns)
        self.ledger.move(who, State.READY, now_ns)
        if who.ready_ns is None:
            who.ready_ns = now_ns
            self._observe(BecameReady(who.zone, who.market, now_ns - who.launched_ns), now_ns)
        return self._decide(now_ns)

    def on_not_ready(self, replica: int, now_ns: int) -> list[Action]:
        who = self.ledger.find(replica, {State.READY, State.UNKNOWN})
        if who is None:
            return []
        self._begin(who, now_ns)
        self.ledger.move(who, State.NOT_READY, now_ns)
        return self._decide(now_ns)

    def on_unknown(self, replica: int, now_ns: int) -> list[Action]:
        """The provider cannot tell what became of it. It is replaced; whatever it is told next holds again."""
        who = self.ledger.find(replica, SERVING)
        if who is None:
            return []
        self.ledger.move(who, State.UNKNOWN, now_ns)
        return self._decide(now_ns)

    def on_notice(self, replica: int, notice: Notice, now_ns: int) -> list[Action]:
        """The cloud says that a machine is at risk, or is about to go: it is replaced at once, see also doomed.py."""
        who = self.ledger.find(replica)
        if who is None or (who.notice is not None and notice.kind in {who.notice.kind, "rebalance"}):
            return []
        who.notice = notice
        self._observe(Noticed(who.zone, notice.kind, doomed.serves_ns(who, self.config, now_ns)), now_ns)
        actions: list[Action] = []
        if notice.kind == "interruption" and who.state in LAUNCHING | {State.UNKNOWN}:  # it would hardly serve
            actions = self._retire(who, "the cloud takes its machine", now_ns)
        return actions + self._decide(now_ns)

    def on_preempted(self, replica: int, now_ns: int) -> list[Action]:
        """The market took its machine."""
        return self._gone(replica, State.PREEMPTED, now_ns)

    def on_terminated(self, replica: int, now_ns: int) -> list[Action]:
        """Its machine is gone, as we wished, or by somebody else's hand."""
        return self._gone(replica, State.TERMINATED, now_ns)

    def on_launch_failed(self, replica: int, why: LaunchFault, now_ns: int) -> list[Action]:
        """No machine came, for certain."""
        who = self.ledger.find(replica, {State.PENDING, State.PROVISIONING, State.UNKNOWN, State.SHUTTING_DOWN})
        if who is None or who.started_ns is not None:
            return []
        self.ledger.end(who, State.TERMINATED if who.state is State.SHUTTING_DOWN else State.FAILED_PROVISION, now_ns)
        self.gates.failed(who.zone, who.market, why, who.launched_ns, now_ns)
        self._observe(LaunchFailed(who.zone, who.market, why), now_ns)
        return self._decide(now_ns)

    def on_failed(self, replica: int, state: State, now_ns: int) -> list[Action]:
        """The service on it failed: FAILED, FAILED_INITIAL_DELAY or FAILED_PROBING, once its machine is given back."""
        assert state in FAILURES, state
        who = self.ledger.find(replica, SERVING | {State.DRAINING, State.UNKNOWN})
        if who is None:
            return []
        if who.state is not State.DRAINING and not who.is_doomed:
            who.ending = state
            if who.version == self.version:
                others = (each for each in self.replicas.values() if each is not who and each.version == who.version)
                self.failing.failed(who.launched_ns, any(each.is_ready for each in others), now_ns)
        return [*self._give_back(who, f"the service on it failed: {state}", now_ns), *self._decide(now_ns)]

    def on_drained(self, replica: int, now_ns: int) -> list[Action]:
        """Nothing is left to do on it. One that the cloud takes may have drained by itself."""
        known = self.replicas.get(replica)
        by_itself = {State.READY, State.NOT_READY} if known is not None and known.is_doomed else set()
        who = self.ledger.find(replica, {State.DRAINING} | by_itself)
        if who is None:
            return []
        return [*self._give_back(who, "drained", now_ns), *self._decide(now_ns)]

    def on_cleanup_failed(self, replica: int, now_ns: int) -> list[Action]:
        """The provider did not take the machine back: it is asked again, later and later, and for ever."""
        who = self.ledger.find(replica, {State.SHUTTING_DOWN})
        if who is None:
            return []
        self.ledger.move(who, State.FAILED_CLEANUP, now_ns)
        who.cleanups += 1
        who.retry_ns = now_ns + (pause_ns(who.cleanups, *CLEANUP_S) or 0)
        return self._decide(now_ns)

    # for the shell

    def next_timer_ns(self) -> int | None:
        """When to be woken."""
        replicas = self.replicas.values()
        times = [who.drain_by_ns if who.state is State.DRAINING else who.retry_ns for who in replicas]
        if not self.is_going_down:
            times += [self._again_ns, self.scaling.next_timer_ns(), self.gates.next_ns(self.now_ns)]
            times += [self.failing.until_ns if self.failing.until_ns > self.now_ns else None]
            times += [doomed.last_moment_ns(who, self.config) for who in replicas]
        return min((time for time in times if time is not None), default=None)

    def view(self) -> View:
        """What strategies see."""
        prices, waits = self.gates.of(self.prices, self.now_ns), self.gates.waits(self.prices, self.now_ns)
        seen = rollout.visible(self.replicas)
        return View(self.target, seen, self.zones, prices, self.config, self.use_spot, self._load, waits)

    def settle(self, now_ns: int) -> None:
        """Bring the books of costs up to now."""
        self.ledger.settle(now_ns)

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """All that a restarted controller must know, as plain data for JSON; times as ages."""
        return restart.snapshot(self, now_ns)

    def restore(self, state: Mapping[str, Any], now_ns: int, asleep_ns: int = 0) -> None:
        """Take up a snapshot in a policy that has seen no event yet.

        `asleep_ns`: since it was taken, by whatever clock went on meanwhile; it only ages what is in it.
        """
        restart.restore(self, state, now_ns, max(0, asleep_ns))
        self._older = (self.ledger.held(), len(self.replicas))

    def resume(self, now_ns: int) -> list[Action]:
        """After restore: what was decided, and may not have been done. All of it may safely be done twice."""
        return restart.resume(self.replicas.values(), now_ns)

    @property
    def most_held(self) -> int:
        """See the top of this file."""
        config = self.config
        extra = config.most if config.num_overprovision is None else config.num_overprovision
        fallback = config.most if config.dynamic_ondemand_fallback else config.base_ondemand_fallback_replicas
        return config.most + config.surge + (extra + fallback if self.use_spot else 0)

    def check(self) -> None:
        """Raise if the books do not balance."""
        self.ledger.check()
        held, machines = self._older
        assert self.ledger.held() <= max(self.most_held, held), (self.ledger.held(), self.most_held, held)
        assert len(self.replicas) <= max(2 * self.most_held, machines), (len(self.replicas), self.most_held, machines)

    # What is behind the events.

    def _decide(self, now_ns: int) -> list[Action]:
        self.now_ns = now_ns
        self.holding, self._again_ns = "", None
        if self.is_going_down:
            of_use = [who for who in self.replicas.values() if who.state in SERVING | {State.UNKNOWN}]
            return [action for who in of_use for action in self._retire(who, "the pool goes down", now_ns)]
        if not self.prices:
            self.holding = "no prices yet"
            return self._relieve(now_ns)
        self.target = self.scaling.target(self._load, list(self.replicas.values()), now_ns)
        actions = self._relieve(now_ns)
        rolls_out = rollout.is_on(self.replicas, self.version)
        if rolls_out:
            rollout.dissolve(self.replicas)
            for who, because in rollout.outdated(self.replicas, self.version):
                actions += self._retire(who, because, now_ns)
            rollout.dissolve(self.replicas)
        view = self.view()
        plan = self.placement.decide(view, now_ns)
        assert plan.again_ns is None or plan.again_ns > now_ns, plan
        self._again_ns = plan.again_ns
        actions += self._retire_surplus(plan, now_ns)
        for start in plan.start:
            actions += self._launch(start.zone, start.market, start.because, view.prices, now_ns)
        if rolls_out:
            actions += self._roll_out(view.prices, now_ns)
        if not self.holding and sum(who.counts for who in self.replicas.values()) < self.target:
            shut = [f"{zone} ({market}): {gate.why}" for (zone, market), gate in self.gates.shut(now_ns).items()]
            self.holding = f"launches failed in {', '.join(shut)}" if shut else "no zone offers a machine"
        held, machines = self._older
        self._older = (min(held, self.ledger.held()), min(machines, len(self.replicas)))
        return actions

    def _relieve(self, now_ns: int) -> list[Action]:
        going = doomed.relieved(self.replicas.values(), self.config, self.target, now_ns)
        return [action for who, because in going for action in self._retire(who, because, now_ns)]

    def _retire_surplus(self, plan: Plan, now_ns: int) -> list[Action]:
        ready = sum(who.is_ready for who in self.replicas.values())
        actions: list[Action] = []
        for retire in plan.retire:
            who = self.replicas[retire.replica]
            assert who.state in SERVING, who
            if who.is_ready:
                if ready <= self.target:
                    continue  # first what takes its place
                ready -= 1
            actions += self._retire(who, retire.because, now_ns)
        return actions

    def _launch(
        self,
        zone: str,
        market: Market,
        because: str,
        prices: Mapping[str, Prices],
        now_ns: int,
        replaces: int | None = None,
    ) -> list[Action]:
        hindered = self._no_launch(zone, market, prices, now_ns)
        if hindered:
            self.holding = hindered
            return []
        who = self.ledger.add(zone, market, self.version, prices[zone].of(market), now_ns, replaces)
        self._observe(Launched(zone, market), now_ns)
        return [Launch(who.id, zone, market, self.version, because)]

    def _no_launch(self, zone: str, market: Market, prices: Mapping[str, Prices], now_ns: int) -> str:
        """Why not; empty: nothing speaks against it."""
        if now_ns < self.failing.until_ns:
            seconds = (self.failing.until_ns - now_ns) / S
            return f"version {self.version} failed {self.failing.row} times in a row: next launch in {seconds:.0f} s"
        if zone not in prices or prices[zone].of(market) == inf:
            gate = self.gates.shut(now_ns).get((zone, market))
            return f"launches in {zone} ({market}) failed: {gate.why}" if gate else f"{zone} does not offer {market}"
        if self.ledger.launching() >= self.config.max_launching:
            return f"max_launching {self.config.max_launching} are under way"
        if self.ledger.held() >= self.most_held or len(self.replicas) >= 2 * self.most_held:
            return f"{self.ledger.held()} replicas, {len(self.replicas)} machines: no more are allowed"
        return ""

    def _roll_out(self, prices: Mapping[str, Prices], now_ns: int) -> list[Action]:
        actions: list[Action] = []
        while rollout.under_way(self.replicas) < self.config.surge:
            older = rollout.next_to_replace(self.replicas, self.version)
            if older is None:
                break
            if (
                self.ledger.held() >= self.most_held
                and sum(who.is_ready for who in self.replicas.values()) > self.target
            ):
                actions += self._retire(older, "an older version, and more are ready than are wanted", now_ns)
                continue
            place = rollout.place_for(older, list(self.replicas.values()), prices, self.use_spot)
            if place is None:
                self.holding = "the new version rolls out as soon as a machine is to be had"
                break
            because = f"version {self.version} in the place of replica {older.id}"
            launched = self._launch(*place, because, prices, now_ns, replaces=older.id)
            if not launched:
                break
            actions += launched
        return actions

    # inside: one replica

    def _retire(self, who: Replica, because: str, now_ns: int) -> list[Action]:
        """Drain it where it may have work, for no longer than its machine is there."""
        within_ns = round(self.config.drain_seconds * S)
        if who.notice is not None and who.is_doomed and who.notice.at_ns is not None:
            within_ns = min(within_ns, max(0, who.notice.at_ns - now_ns))
        if who.state not in {State.READY, State.NOT_READY} or within_ns <= 0:
            return self._give_back(who, because, now_ns)
        self.ledger.move(who, State.DRAINING, now_ns)
        who.drain_by_ns = now_ns + within_ns
        return [Drain(who.id, within_ns, because)]

    def _give_back(self, who: Replica, because: str, now_ns: int) -> list[Action]:
        self.ledger.move(who, State.SHUTTING_DOWN, now_ns)  # PENDING too: it may have been asked for already
        who.retry_ns = now_ns + ASK_AGAIN_NS
        return [Terminate(who.id, because)]

    def _gone(self, replica: int, state: State, now_ns: int) -> list[Action]:
        who = self.ledger.find(replica)
        if who is None:
            return []
        lived_ns = 0 if who.started_ns is None else now_ns - who.started_ns
        taken = who.market == "spot" and (who.is_doomed or (state is State.PREEMPTED and who.state not in LEAVING))
        self.ledger.end(who, state, now_ns)
        lost = Lost(who.zone, lived_ns, who.notice is not None)
        self._observe(lost if taken else Returned(who.zone, who.market, lived_ns), now_ns)
        return self._decide(now_ns)

    def _begin(self, who: Replica, now_ns: int) -> None:
        """Its machine runs."""
        if who.started_ns is None:
            who.started_ns = now_ns
            self.gates.started(who.zone, who.market)
            if who.state not in LEAVING:
                self._observe(Started(who.zone, who.market, now_ns - who.launched_ns), now_ns)

    def _observe(self, event: MarketEvent, now_ns: int) -> None:
        self.placement.observe(event, now_ns)
