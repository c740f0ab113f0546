"""Admission under any order of queries, duplicates, cancels, results and time.

Kept: its books balance after every event; no id is started twice unless the service said that it did not run; a copy
that was said not to run is not run by its second arrival; never more run or wait than allowed; a free slot refuses
nobody for want of time; every ticket is answered or refused exactly once, given that every started run ends.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skyfog_core.errors import Status
from skyfog_core.units import MS
from skyfog_core.wire.envelope import VERSION, Header
from skyfog_router.policy.admission import UNDER_WAY_NS, Admission, AdmissionAction, Answer, Refuse, Start, Stop
from skyfog_router.policy.service_time import MIN_SAMPLES

HASH = bytes(32)
IDS = [bytes([n]) * 16 for n in range(12)]
REMEMBER_MS = 10_000  # longer than any run of the machine: nothing is ever started twice

ids = st.sampled_from(IDS)


class AdmissionMachine(RuleBasedStateMachine):
    @initialize(
        concurrency=st.integers(1, 3),
        max_queue=st.integers(0, 3),
        can_abandon=st.booleans(),
        can_stop=st.booleans(),
        leaves=st.sampled_from(["stays", "finishes", "ends"]),
    )
    def begin(self, concurrency: int, max_queue: int, can_abandon: bool, can_stop: bool, leaves: str) -> None:
        self.leaves = leaves
        self.concurrency, self.max_queue = concurrency, max_queue
        self.desk = Admission(HASH, concurrency, max_queue, REMEMBER_MS * MS, can_abandon, can_stop)
        self.can_stop = can_stop
        self.stops: Counter[bytes] = Counter()
        self.now_ns = 0
        self.running: list[bytes] = []  # as the service sees it: an abandoned call runs on
        self.started = 0
        self.ran: set[bytes] = set()  # or may have
        self.draining_since_ns: int | None = None
        self.gone_ns: int | None = None
        self.closed = False
        self.tickets: dict[int, bytes] = {}
        self.attempts: dict[int, int] = {}  # by ticket
        self.refused: Counter[bytes] = Counter()  # attempts up to this one were said not to run, plus 1
        self.answers: Counter[int] = Counter()

    def perform(self, actions: list[AdmissionAction]) -> None:
        for action in actions:
            if isinstance(action, Stop):
                assert self.can_stop
                assert action.request_id in self.running, "told to stop, and does not run"
                self.stops[action.request_id] += 1
                assert self.stops[action.request_id] == 1, "told twice in one run"
                continue
            assert self.tickets[action.ticket] == action.request_id
            match action:
                case Start():
                    assert action.request_id not in self.ran, "ran twice"
                    assert action.budget_ms >= 0
                    assert action.queued_ns >= 0
                    self.started += 1
                    self.ran.add(action.request_id)
                    self.stops[action.request_id] = 0
                    self.running.append(action.request_id)
                case Answer():
                    assert action.result == action.request_id
                    self.answers[action.ticket] += 1
                case Refuse():
                    assert action.status in (Status.NOT_EXECUTED, Status.OUTCOME_UNKNOWN)
                    if action.status is Status.NOT_EXECUTED:
                        assert action.request_id not in self.ran, "it did run"
                        self.note_refusal(action.request_id, self.attempts[action.ticket])
                    assert action.message
                    self.answers[action.ticket] += 1

    def note_refusal(self, request_id: bytes, attempt: int) -> None:
        self.refused[request_id] = max(self.refused[request_id], attempt + 1)

    @rule(
        request_id=ids,
        budget_ms=st.integers(0, 40),
        priority=st.integers(0, 2),
        robot=st.sampled_from(["a", "b", "c"]),
        attempt=st.integers(0, 6),
    )
    def query(self, request_id: bytes, budget_ms: int, priority: int, robot: str, attempt: int) -> None:
        ticket = len(self.tickets)
        self.tickets[ticket], self.attempts[ticket] = request_id, attempt
        header = Header(VERSION, request_id, attempt, budget_ms, HASH, priority, robot)
        has_slot = len(self.desk._running) < self.concurrency
        new = request_id not in self.ran and not self.is_drained() and budget_ms > 0
        new = new and attempt >= self.refused[request_id]
        before = self.started
        self.perform(self.desk.on_query(header, ticket, self.now_ns))
        leaving = self.closed or self.gone_ns is not None
        assert leaving or self.started == before + (has_slot and new), "a free slot is for whoever comes"
        assert self.gone_ns is None or self.now_ns < self.gone_ns or self.started == before, "the machine is gone"

    @rule(took_ms=st.integers(0, 20))
    def learn(self, took_ms: int) -> None:
        """Enough runs to know what is hopeless."""
        for _ in range(MIN_SAMPLES):
            self.desk._times.ran(took_ms * MS, self.now_ns)

    @rule(draining=st.booleans(), within_ms=st.none() | st.integers(0, 60))
    def drain(self, draining: bool, within_ms: int | None) -> None:
        within_ns = None if within_ms is None else within_ms * MS
        self.perform(self.desk.drain(draining, self.now_ns, within_ns))
        if not draining:
            self.gone_ns = None
        elif within_ns is not None:
            self.gone_ns = min(self.now_ns + within_ns, self.gone_ns or self.now_ns + within_ns)
        self.draining_since_ns = (
            (self.now_ns if self.draining_since_ns is None else self.draining_since_ns) if draining else None
        )

    def is_drained(self) -> bool:
        since_ns = self.draining_since_ns
        return since_ns is not None and self.desk.is_idle and self.now_ns - since_ns >= UNDER_WAY_NS

    @rule(request_id=ids)
    def cancel(self, request_id: bytes) -> None:
        self.perform(self.desk.on_cancel(request_id))

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.running:
            self.done(self.running.pop(data.draw(st.integers(0, len(self.running) - 1))), data.draw(st.booleans()))

    def done(self, request_id: bytes, ran: bool) -> None:
        if not ran and request_id not in self.running:
            self.ran.discard(request_id)
        if not ran and request_id in self.desk._running:
            self.note_refusal(request_id, self.desk._running[request_id].attempt)
        self.perform(self.desk.on_done(request_id, request_id, self.now_ns, ran))

    @rule(by_ms=st.integers(0, 30))
    def pass_time(self, by_ms: int) -> None:
        until_ns = self.now_ns + by_ms * MS
        while (due := self.desk.next_timer_ns()) is not None and due <= until_ns:
            self.now_ns = max(self.now_ns, due)
            self.perform(self.desk.on_timer(self.now_ns))
            assert self.desk.next_timer_ns() != due, "the timer goes on without an end"
        self.now_ns = until_ns

    @invariant()
    def books_balance(self) -> None:
        self.desk.check()
        assert self.desk.depth <= self.max_queue
        assert self.desk.started == self.started
        assert all(n == 1 for n in self.answers.values()), "a ticket was answered twice"

    @invariant()
    def nobody_waits_on_a_machine_that_is_gone(self) -> None:
        assert self.gone_ns is None or self.now_ns <= self.gone_ns or self.desk.depth == 0

    @invariant()
    def no_slot_is_idle_while_somebody_waits(self) -> None:
        assert self.desk.depth == 0 or len(self.desk._running) == self.concurrency

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            if self.leaves == "finishes":
                self.desk.close()
                self.closed = True
                self.query(b"l" * 16, 40, 0, "a", 0)
                assert b"l" * 16 not in self.ran
            elif self.leaves == "ends":
                self.perform(self.desk.end())
                assert self.answers.keys() == self.tickets.keys(), "nobody is left without an answer"
            else:
                self.pass_time(by_ms=41)
            while self.running:
                self.done(self.running.pop(), ran=True)
                self.pass_time(by_ms=0)
            self.books_balance()
            assert self.desk.is_idle
            assert self.answers.keys() == self.tickets.keys(), "a ticket was never answered"


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(max_examples=150, stateful_step_count=50)
