"""The router under any order of calls, joins, leaves, replies, errors, ends and time.

Whatever the policy, the rank and what may be repeated: its books balance after every event; every call is delivered or
failed exactly once, by its deadline; nothing is sent for what is over, nor to who is not live, nor past fan-out, nor a
second time where that is forbidden; only who was asked and has not ended is cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from skyfog_core.config.router import RankName, RoutingConfig
from skyfog_core.errors import InvalidReply, NotExecuted, OutcomeUnknown, RequestError, ServiceFailed
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Action, Cancel, Deliver, Eject, Fail, Load, Readmit, Send
from skyfog_router.policy.router import Router

REPLICAS = [ReplicaKey(zone, name) for zone in "ab" for name in "01"]
DEADLINE_NS = 50 * MS
SAID = Announcement()

replicas = st.sampled_from(REPLICAS)
errors = st.sampled_from([NotExecuted("n"), OutcomeUnknown("o"), ServiceFailed("f"), InvalidReply("i")])
loads = st.builds(
    Load,
    service_ns=st.integers(0, 20 * MS),
    queue_ns=st.integers(0, 5 * MS),
    queue_depth=st.integers(0, 9),
    running=st.integers(0, 3),
    retry_after_ns=st.sampled_from([0, 0, 3 * MS, 80 * MS]),
)
configs = st.builds(
    RoutingConfig,
    policy=st.sampled_from(["slo", "broadcast", "single", "k_of_n", "hedged"]),
    rank=st.sampled_from(list(get_args(RankName))),
    deadline_ms=st.just(DEADLINE_NS // MS),
    slo_ms=st.sampled_from([0, 20]),
    extra_load=st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    fan_out=st.integers(1, 3),
    k=st.integers(1, 3),
    max_in_flight=st.integers(1, 4),
    max_attempts=st.integers(1, 6),
) | st.builds(
    RoutingConfig,
    policy=st.sampled_from(["slo", "single"]),
    repeat=st.sampled_from(["if_not_executed", "at_most_once"]),
    deadline_ms=st.just(DEADLINE_NS // MS),
    max_in_flight=st.integers(1, 4),
)


@dataclass
class Seen:
    """What the test knows of one call."""

    deadline_ns: int
    outstanding: set[ReplicaKey] = field(default_factory=set)
    trials: set[ReplicaKey] = field(default_factory=set)
    attempts: int = 0
    may_have_run: bool = False
    outcome: Action | None = None


class RouterMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    @initialize(config=configs, seed=st.integers(0, 9))
    def begin(self, config: RoutingConfig, seed: int) -> None:
        self.config = config
        self.router = Router(config, zone="a", seed=seed)
        self.now_ns = 0
        self.live: dict[ReplicaKey, Announcement] = {}
        self.seen: dict[bytes, Seen] = {}

    def open(self) -> list[Seen]:
        return [seen for seen in self.seen.values() if seen.outcome is None]

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Eject | Readmit):
                assert action.replica in self.live
                continue
            seen = self.seen[action.request_id]
            match action:
                case Send():
                    self.sent(seen, action)
                case Cancel():
                    assert seen.outcome is not None, "the caller comes first"
                    assert action.replica in seen.outstanding
                    seen.outstanding.remove(action.replica)
                case Deliver() | Fail():
                    assert seen.outcome is None, "a second outcome"
                    assert action.took_ns >= 0
                    seen.outcome = action

    def sent(self, seen: Seen, action: Send) -> None:
        assert seen.outcome is None, "sent after it was over"
        assert action.replica in self.live
        assert action.replica not in seen.outstanding, "asked twice at once"
        assert action.attempt == seen.attempts
        assert 1 <= action.budget_ms * MS <= max(MS, seen.deadline_ns - self.now_ns)
        assert self.now_ns < seen.deadline_ns
        if self.config.repeat != "idempotent":
            assert not seen.outstanding, "may run twice"
            assert not seen.may_have_run, "may run twice"
            assert self.config.repeat == "if_not_executed" or seen.attempts == 0
        seen.outstanding.add(action.replica)
        if action.why == "probe":
            seen.trials.add(action.replica)
        seen.attempts += 1
        assert seen.attempts <= self.config.max_attempts
        counted = {r for r in seen.outstanding & self.live.keys() - seen.trials if not self.live[r].local}
        assert len(counted) <= self.config.fan_out

    @rule(target=calls)
    def call(self) -> object:
        request_id = len(self.seen).to_bytes(16, "big")
        had_room = len(self.open()) < self.config.max_in_flight
        self.seen[request_id] = Seen(self.now_ns + DEADLINE_NS)
        self.perform(self.router.on_call(request_id, self.now_ns, affinity=b"x"))
        seen = self.seen[request_id]
        assert (seen.outcome is None) == had_room
        if had_room:
            assert bool(seen.outstanding) == bool(self.live), "somebody is asked at once where there is anybody"
            if self.config.policy == "broadcast":
                assert len(seen.outstanding) == min(self.config.fan_out, self.config.max_attempts, len(self.live))
            return request_id
        return multiple()

    @rule(replica=replicas, boot=st.integers(1, 2), local=st.sampled_from([False, False, False, True]))
    def join(self, replica: ReplicaKey, boot: int, local: bool) -> None:
        if local and self.config.policy == "broadcast":
            return
        self.live[replica] = Announcement(boot=boot, price_per_hour=float(boot), local=local)
        self.perform(self.router.on_join(replica, self.live[replica], self.now_ns))

    @rule(replica=replicas)
    def leave(self, replica: ReplicaKey) -> None:
        said = self.live.pop(replica, SAID)
        self.perform(self.router.on_leave(replica, said, self.now_ns))

    @rule(request_id=calls, replica=replicas, load=loads)
    def reply(self, request_id: bytes, replica: ReplicaKey, load: Load) -> None:
        seen = self.seen[request_id]
        wins = seen.outcome is None and replica in seen.outstanding
        seen.outstanding.discard(replica)
        before = seen.outcome
        self.perform(self.router.on_reply(request_id, replica, "response", self.now_ns, load))
        if wins:
            assert isinstance(seen.outcome, Deliver)
            assert seen.outcome.replica == replica
            if self.config.policy == "broadcast":
                assert not seen.outstanding, "every loser is cancelled"
        else:
            assert seen.outcome is before

    @rule(request_id=calls, replica=replicas, error=errors, load=loads)
    def error(self, request_id: bytes, replica: ReplicaKey, error: RequestError, load: Load) -> None:
        seen = self.seen[request_id]
        counts = seen.outcome is None and replica in seen.outstanding
        before = seen.outcome
        seen.may_have_run |= counts and not isinstance(error, NotExecuted)
        seen.outstanding.discard(replica)
        self.perform(self.router.on_error(request_id, replica, error, self.now_ns, load))
        assert counts or seen.outcome is before

    @rule(request_id=calls, replica=replicas)
    def end(self, request_id: bytes, replica: ReplicaKey) -> None:
        seen = self.seen[request_id]
        seen.may_have_run |= replica in seen.outstanding
        seen.outstanding.discard(replica)
        self.perform(self.router.on_ended(request_id, replica, self.now_ns))

    @rule(by_ms=st.integers(0, 60))
    def pass_time(self, by_ms: int) -> None:
        until_ns = self.now_ns + by_ms * MS
        for _ in range(10_000):
            due = self.router.next_timer_ns()
            if due is None or due > until_ns:
                break
            self.now_ns = max(self.now_ns, due)
            self.perform(self.router.on_timer(self.now_ns))
        else:
            raise AssertionError("timers without end")
        self.now_ns = until_ns
        assert all(seen.deadline_ns > self.now_ns for seen in self.open()), "open past its deadline"

    @rule(policy=st.sampled_from(["slo", "single", "hedged"]), extra_load=st.sampled_from([0.0, 0.5]))
    def reconfigure(self, policy: str, extra_load: float) -> None:
        if self.config.repeat != "idempotent":
            return
        self.config = self.config.model_copy(update={"policy": policy, "extra_load": extra_load})
        self.perform(self.router.reconfigure(self.config, self.now_ns))

    @precondition(lambda self: self.seen)
    @rule()
    def close(self) -> None:
        self.perform(self.router.close(NotExecuted("shutting down"), self.now_ns))
        assert not self.open()
        for seen in self.seen.values():
            seen.outstanding.clear()

    @invariant()
    def books_balance(self) -> None:
        self.router.check()
        outcomes = [seen.outcome for seen in self.seen.values()]
        books = self.router.books
        assert books.called == len(outcomes)
        assert books.delivered == sum(isinstance(o, Deliver) for o in outcomes)
        assert books.failed == sum(isinstance(o, Fail) for o in outcomes)
        assert books.sends.total() == sum(seen.attempts for seen in self.seen.values())
        assert {i for i, seen in self.seen.items() if seen.outcome is None} == self.router._open.keys()

    @invariant()
    def looking_changes_nothing(self) -> None:
        snapshot = self.router.snapshot(self.now_ns)
        assert snapshot == self.router.snapshot(self.now_ns)
        assert len(snapshot.replicas) == len(self.live)

    def teardown(self) -> None:
        if hasattr(self, "router"):
            self.pass_time(by_ms=DEADLINE_NS // MS)
            assert not self.open(), "everything is over after one deadline"
            assert not any(seen.outstanding for seen in self.seen.values()), "nobody works for nothing any more"
            self.books_balance()


TestRouter = RouterMachine.TestCase
TestRouter.settings = settings(max_examples=200, stateful_step_count=50)
