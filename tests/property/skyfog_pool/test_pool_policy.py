"""Any order of events, true, late, doubled or false: the books balance, and in a kind world the target is reached."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.demand import Demand
from skyfog_pool.policy.doomed import last_moment_ns
from skyfog_pool.policy.market import Notice, Prices, Zone
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_pool.policy.view import Load

ZONES = [Zone("a", "east"), Zone("b", "east"), Zone("c", "west")]
PRICES = {"a": Prices(0.3, 1.0), "b": Prices(0.4, 1.0), "c": Prices(0.5, 1.2)}
REPLICA = st.integers(1, 40)
EVENTS = (
    "on_provisioning",
    "on_started",
    "on_ready",
    "on_not_ready",
    "on_preempted",
    "on_drained",
    "on_terminated",
    "on_cleanup_failed",
    "on_unknown",
)


class Machine(RuleBasedStateMachine):
    """Plays provider, fleet and user against one placement."""

    placement: str

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.told: Counter[tuple[type[Action], int]] = Counter()
        self.version = 1
        self.config = ReplicaPolicyConfig(
            min_replicas=2, max_replicas=4, target_qps_per_replica=1.0, upscale_delay_seconds=10, on_notice="serve"
        )
        self.pool = self.make()

    def make(self) -> PoolPolicy:
        return PoolPolicy(
            self.config, ZONES, PLACEMENTS[self.placement](ZONES), Demand(self.config), version=self.version
        )

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            self.told[type(action), action.replica] += 1
            match action:
                case Launch(replica=replica):
                    assert self.told[Launch, replica] == 1
                case Drain(replica=replica):
                    assert self.told[Drain, replica] == 1
                    assert not self.told[Terminate, replica]
                case Terminate(replica=replica, because=because):
                    again = because == "the provider has not taken it back yet"
                    assert again or self.told[Terminate, replica] == 1

    @rule(event=st.sampled_from(EVENTS), replica=REPLICA)
    def something(self, event: str, replica: int) -> None:
        self.take(getattr(self.pool, event)(replica, self.now_ns))

    @rule(data=st.data(), event=st.sampled_from(EVENTS))
    @precondition(lambda self: self.pool.replicas)
    def something_known(self, data: st.DataObject, event: str) -> None:
        replica = data.draw(st.sampled_from(sorted(self.pool.replicas)))
        self.take(getattr(self.pool, event)(replica, self.now_ns))

    @rule(replica=REPLICA, why=st.sampled_from(("capacity", "quota", "rejected", "error")))
    def launch_failed(self, replica: int, why: str) -> None:
        self.take(self.pool.on_launch_failed(replica, why, self.now_ns))  # type: ignore[arg-type]

    @rule(replica=REPLICA, state=st.sampled_from((State.FAILED, State.FAILED_PROBING, State.FAILED_INITIAL_DELAY)))
    def failed(self, replica: int, state: State) -> None:
        self.take(self.pool.on_failed(replica, state, self.now_ns))

    @rule(replica=REPLICA, kind=st.sampled_from(("interruption", "rebalance")), left=st.none() | st.integers(0, 120))
    def notice(self, replica: int, kind: str, left: int | None) -> None:
        at_ns = None if left is None else self.now_ns + left * S
        self.take(self.pool.on_notice(replica, Notice(kind, at_ns), self.now_ns))  # type: ignore[arg-type]

    @rule(data=st.data(), left=st.integers(0, 120))
    @precondition(lambda self: self.pool.replicas)
    def notice_of_one_known(self, data: st.DataObject, left: int) -> None:
        replica = data.draw(st.sampled_from(sorted(self.pool.replicas)))
        self.notice(replica=replica, kind="interruption", left=left)

    @rule(zone=st.sampled_from(("a", "b", "c", "elsewhere")), spot=st.sampled_from((0.1, 0.7, float("inf"))))
    def price(self, zone: str, spot: float) -> None:
        self.take(self.pool.on_prices({zone: Prices(spot, 1.0)}, self.now_ns))

    @rule(requests=st.integers(0, 500))
    def load(self, requests: int) -> None:
        self.take(self.pool.on_load(Load(60 * S, requests), self.now_ns))

    @rule(seconds=st.sampled_from((0, 1, 30, 700)))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * S
        self.take(self.pool.on_timer(self.now_ns))

    @rule(
        least=st.integers(0, 3),
        spot=st.booleans(),
        version=st.integers(1, 3),
        surge=st.integers(1, 2),
        on_notice=st.sampled_from(("drain", "serve")),
        zones=st.integers(1, 3),
    )
    def spec(self, least: int, spot: bool, version: int, surge: int, on_notice: str, zones: int) -> None:
        self.version = version
        self.config = self.config.model_copy(
            update={"min_replicas": least, "surge": surge, "on_notice": on_notice, "min_zones": zones}
        )
        self.take(self.pool.on_spec(self.config, spot, version, self.now_ns))

    @rule()
    def down(self) -> None:
        self.take(self.pool.down(self.now_ns))
        assert self.pool.down(self.now_ns) == []

    @rule()
    def restart(self) -> None:
        state = json.loads(json.dumps(self.pool.snapshot(self.now_ns)))
        spot, before = self.pool.use_spot, self.pool
        self.now_ns = 5 * S  # steady time begins anew
        self.pool = self.make()
        self.pool.use_spot = spot
        self.pool.restore(state, self.now_ns)
        assert self.pool.snapshot(self.now_ns) == state
        assert self.pool.replicas.keys() == before.replicas.keys()
        self.pool.resume(self.now_ns)

    @invariant()
    def who_is_told_to_go_serves_no_longer_than_it_may(self) -> None:
        for who in self.pool.replicas.values():
            if who.is_doomed and who.takes_requests and self.now_ns == self.pool.now_ns:
                at_ns = last_moment_ns(who, self.config)
                assert at_ns is not None
                assert at_ns > self.now_ns
                assert self.config.on_notice == "serve"

    @invariant()
    def books_balance(self) -> None:
        self.pool.settle(self.now_ns)
        self.pool.check()
        due_ns = self.pool.next_timer_ns()
        assert due_ns is None or due_ns > self.now_ns or self.now_ns > self.pool.now_ns or self.is_due(due_ns)

    def is_due(self, due_ns: int) -> bool:
        """What is due now is something that a timer does, so that no timer rings for ever."""
        self.take(self.pool.on_timer(self.now_ns))
        after_ns = self.pool.next_timer_ns()
        return after_ns is None or after_ns > self.now_ns

    def at_rest(self) -> bool:
        replicas = self.pool.replicas.values()
        settled = all(who.state is State.READY and who.version == self.version for who in replicas)
        return settled and self.pool.view().ready() >= self.pool.target

    def teardown(self) -> None:
        """A kind world: machines come, get ready, and go when they are asked to."""
        self.take(self.pool.on_prices(PRICES, self.now_ns))
        self.take(self.pool.on_spec(self.config, True, self.version, self.now_ns))
        for _ in range(400):
            self.now_ns += 30 * S
            self.take(self.pool.on_timer(self.now_ns))
            for who in list(self.pool.replicas.values()):
                match who.state:
                    case State.UNKNOWN:
                        self.take(self.pool.on_terminated(who.id, self.now_ns))
                    case State.PENDING | State.PROVISIONING:
                        self.take(self.pool.on_started(who.id, self.now_ns))
                    case State.STARTING | State.NOT_READY:
                        self.take(self.pool.on_ready(who.id, self.now_ns))
                    case State.DRAINING if who.is_doomed:
                        self.take(self.pool.on_preempted(who.id, self.now_ns))
                    case State.DRAINING:
                        self.take(self.pool.on_drained(who.id, self.now_ns))
                    case State.SHUTTING_DOWN:
                        self.take(self.pool.on_terminated(who.id, self.now_ns))
            self.pool.check()
            if self.at_rest():
                break
        assert self.pool.view().ready() >= self.pool.target, self.pool.replicas
        assert all(who.version == self.version for who in self.pool.replicas.values())
        states = {who.state for who in self.pool.replicas.values()}
        assert states <= {State.READY}, "it never comes to rest"
        self.take(self.pool.down(self.now_ns))
        for who in list(self.pool.replicas.values()):
            self.pool.on_drained(who.id, self.now_ns)
            self.pool.on_terminated(who.id, self.now_ns)
        assert not self.pool.replicas
        assert self.pool.next_timer_ns() is None


@pytest.mark.parametrize("placement", sorted(PLACEMENTS))
def test_any_order_of_events(placement: str) -> None:
    machine = type("Placed", (Machine,), {"placement": placement})
    # A failure is told as it was found: to shorten it takes minutes.
    machine.TestCase.settings = settings(
        max_examples=25, stateful_step_count=40, deadline=None, phases=[Phase.generate]
    )
    test = machine.TestCase()
    test.runTest()
