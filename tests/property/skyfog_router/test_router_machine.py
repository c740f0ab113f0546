"""The router under any order of calls, joins, leaves, replies, errors, ends and time.

Kept: its books balance after every event; every call is delivered or failed exactly once, by its deadline; nothing is
sent for what is over, nor to who is not live, nor past fan-out; only who was asked and has not ended is cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import InvalidReply, NotExecuted, OutcomeUnknown, RequestError, ServiceFailed
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Action, Cancel, Deliver, Fail, Send
from skyfog_router.policy.router import Router

REPLICAS = [ReplicaKey(zone, name) for zone in "ab" for name in "01"]
DEADLINE_NS = 50 * MS
SAID = Announcement()

replicas = st.sampled_from(REPLICAS)
errors = st.sampled_from([NotExecuted("n"), OutcomeUnknown("o"), ServiceFailed("f"), InvalidReply("i")])


@dataclass
class Seen:
    """What the test knows of one call."""

    deadline_ns: int
    outstanding: set[ReplicaKey] = field(default_factory=set)
    attempts: int = 0
    outcome: Action | None = None


class RouterMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    @initialize(fan_out=st.integers(1, 3), max_in_flight=st.integers(1, 4))
    def begin(self, fan_out: int, max_in_flight: int) -> None:
        self.fan_out, self.max_in_flight = fan_out, max_in_flight
        self.router = Router(RoutingConfig(deadline_ms=DEADLINE_NS // MS, fan_out=fan_out, max_in_flight=max_in_flight))
        self.now_ns = 0
        self.live: set[ReplicaKey] = set()
        self.seen: dict[bytes, Seen] = {}

    def open(self) -> list[Seen]:
        return [seen for seen in self.seen.values() if seen.outcome is None]

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            seen = self.seen[action.request_id]
            match action:
                case Send():
                    assert seen.outcome is None, "sent after it was over"
                    assert action.replica in self.live
                    assert action.replica not in seen.outstanding, "asked twice at once"
                    assert action.attempt == seen.attempts
                    assert 1 <= action.budget_ms * MS <= max(MS, seen.deadline_ns - self.now_ns)
                    assert self.now_ns < seen.deadline_ns
                    seen.outstanding.add(action.replica)
                    seen.attempts += 1
                    assert len(seen.outstanding & self.live) <= self.fan_out
                case Cancel():
                    assert seen.outcome is not None, "the caller comes first"
                    assert action.replica in seen.outstanding
                    seen.outstanding.remove(action.replica)
                case Deliver() | Fail():
                    assert seen.outcome is None, "a second outcome"
                    assert action.took_ns >= 0
                    seen.outcome = action

    @rule(target=calls)
    def call(self) -> object:
        request_id = len(self.seen).to_bytes(16, "big")
        had_room = len(self.open()) < self.max_in_flight
        self.seen[request_id] = Seen(self.now_ns + DEADLINE_NS)
        self.perform(self.router.on_call(request_id, self.now_ns))
        seen = self.seen[request_id]
        assert (seen.outcome is None) == had_room
        if had_room:
            assert len(seen.outstanding) == min(self.fan_out, len(self.live))
            return request_id
        return multiple()

    @rule(replica=replicas)
    def join(self, replica: ReplicaKey) -> None:
        self.live.add(replica)
        self.perform(self.router.on_join(replica, SAID, self.now_ns))

    @rule(replica=replicas)
    def leave(self, replica: ReplicaKey) -> None:
        self.live.discard(replica)
        self.router.on_leave(replica, SAID, self.now_ns)

    @rule(request_id=calls, replica=replicas)
    def reply(self, request_id: bytes, replica: ReplicaKey) -> None:
        seen = self.seen[request_id]
        wins = seen.outcome is None and replica in seen.outstanding
        if wins:
            seen.outstanding.remove(replica)
        before = seen.outcome
        self.perform(self.router.on_reply(request_id, replica, "response", self.now_ns))
        if wins:
            assert isinstance(seen.outcome, Deliver)
            assert seen.outcome.replica == replica
            assert not seen.outstanding, "every loser is cancelled"
        else:
            assert seen.outcome is before

    @rule(request_id=calls, replica=replicas, error=errors)
    def error(self, request_id: bytes, replica: ReplicaKey, error: RequestError) -> None:
        seen = self.seen[request_id]
        counts = seen.outcome is None and replica in seen.outstanding
        before = seen.outcome
        seen.outstanding.discard(replica)
        self.perform(self.router.on_error(request_id, replica, error, self.now_ns))
        assert counts or seen.outcome is before

    @rule(request_id=calls, replica=replicas)
    def end(self, request_id: bytes, replica: ReplicaKey) -> None:
        seen = self.seen[request_id]
        seen.outstanding.discard(replica)
        self.perform(self.router.on_ended(request_id, replica, self.now_ns))

    @rule(by_ms=st.integers(0, 60))
    def pass_time(self, by_ms: int) -> None:
        until_ns = self.now_ns + by_ms * MS
        while (due := self.router.next_timer_ns()) is not None and due <= until_ns:
            self.now_ns = max(self.now_ns, due)
            self.perform(self.router.on_timer(self.now_ns))
        self.now_ns = until_ns
        assert all(seen.deadline_ns > self.now_ns for seen in self.open()), "open past its deadline"

    @precondition(lambda self: self.seen)
    @rule()
    def close(self) -> None:
        self.perform(self.router.close(NotExecuted("shutting down"), self.now_ns))
        assert not self.open()

    @invariant()
    def books_balance(self) -> None:
        self.router.check()
        outcomes = [seen.outcome for seen in self.seen.values()]
        books = self.router.books
        assert books.called == len(outcomes)
        assert books.delivered == sum(isinstance(o, Deliver) for o in outcomes)
        assert books.failed == sum(isinstance(o, Fail) for o in outcomes)
        assert {i for i, seen in self.seen.items() if seen.outcome is None} == self.router._open.keys()

    @invariant()
    def nobody_idle_is_left_unasked(self) -> None:
        for request in self.router._open.values():
            untried = self.live - request.asked - request.ended.keys()
            busy = len(request.asked & self.live)
            assert not untried or busy >= self.fan_out or self.left_since(request)

    def left_since(self, request: object) -> bool:
        """A leave frees a place of the fan-out, which the next event of the request fills."""
        return bool(request.asked - self.live) or bool(request.rejoined)  # type: ignore[attr-defined]

    def teardown(self) -> None:
        if hasattr(self, "router"):
            self.pass_time(by_ms=DEADLINE_NS // MS)
            assert not self.open(), "everything is over after one deadline"
            self.books_balance()


TestRouter = RouterMachine.TestCase
TestRouter.settings = settings(max_examples=150, stateful_step_count=50)
