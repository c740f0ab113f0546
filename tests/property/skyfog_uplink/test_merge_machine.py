"""The merger under any order of captures, answers, late ones, repeats and clocks.

Kept: after its first answer a capture only ever gets better ones; nothing follows a final one; `best` publishes once; a
capture that had an answer by its deadline is never missed, and one that had none is missed exactly once; books balance.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skyfog_core.units import MS, S
from skyfog_uplink.policy.merge import LATE_NS, MergeAction, Merger, Missed, Publish

FLOOR = 0.4


class MergeMachine(RuleBasedStateMachine):
    @initialize(each=st.booleans())
    def begin(self, each: bool) -> None:
        self.each = each
        self.merger = Merger("each" if each else "best", FLOOR)
        self.now_ns = 0
        self.deadlines: dict[int, int] = {}
        self.answered: set[int] = set()  # in time, by anyone
        self.published: dict[int, list[Publish]] = {}
        self.missed: set[int] = set()
        self.jumped = False

    def perform(self, actions: list[MergeAction]) -> None:
        for action in actions:
            if isinstance(action, Missed):
                assert action.capture not in self.missed, "missed twice"
                assert action.capture not in self.published
                assert action.capture not in self.answered or self.jumped
                self.missed.add(action.capture)
                continue
            earlier = self.published.setdefault(action.capture, [])
            assert action.replaces == bool(earlier)
            assert not action.replaces or self.each, "one answer a capture was asked for"
            if earlier:
                assert not earlier[-1].final, "something followed the last answer"
                assert action.answer > earlier[-1].answer or (
                    action.answer == earlier[-1].answer and action.source == "cloud"
                )
            if action.late:
                assert action.source == "car"
                assert self.now_ns > self.deadlines[action.capture]
            earlier.append(action)
        self.merger.check()

    @rule(slo_ms=st.integers(1, 400), offloads=st.integers(0, 2))
    def capture(self, slo_ms: int, offloads: int) -> None:
        number = len(self.deadlines)
        self.deadlines[number] = self.now_ns + slo_ms * MS
        self.perform(self.merger.on_capture(number, self.deadlines[number], offloads, self.now_ns))

    @rule(back=st.integers(0, 6))
    def car_answers(self, back: int) -> None:
        number = len(self.deadlines) - 1 - back
        known = self.merger._open.get(number)
        if known is not None and not known.car and self.now_ns <= known.deadline_ns:
            self.answered.add(number)
        self.perform(self.merger.on_car(number, FLOOR, self.now_ns))

    @rule(back=st.integers(0, 6), accuracy=st.sampled_from([0.2, FLOOR, 0.6, 0.8]))
    def cloud_answers(self, back: int, accuracy: float) -> None:
        number = len(self.deadlines) - 1 - back
        known = self.merger._open.get(number)
        if known is not None and known.offloads and self.now_ns <= known.deadline_ns:
            self.answered.add(number)
        self.perform(self.merger.on_cloud(number, accuracy, accuracy, self.now_ns))

    @rule(back=st.integers(0, 6))
    def cloud_is_gone(self, back: int) -> None:
        self.perform(self.merger.on_cloud_gone(len(self.deadlines) - 1 - back, self.now_ns))

    @rule(by_ms=st.integers(0, 300))
    def wait(self, by_ms: int) -> None:
        until_ns = self.now_ns + by_ms * MS
        for _ in range(10_000):
            due_ns = self.merger.next_timer_ns()
            if due_ns is None or due_ns > until_ns:
                break
            self.now_ns = max(self.now_ns, due_ns)
            self.perform(self.merger.on_timer(self.now_ns))
        else:
            raise AssertionError("time stands still")
        self.now_ns = until_ns

    @rule(by_s=st.sampled_from([-60, 60]))
    def clock_jumps(self, by_s: int) -> None:
        self.jumped = True
        self.now_ns += by_s * S
        self.perform(self.merger.on_timer(self.now_ns))

    @invariant()
    def each_capture_that_was_answered_is_out_or_open(self) -> None:
        if hasattr(self, "merger"):
            for number in self.answered:
                assert number in self.published or number in self.merger._open

    def teardown(self) -> None:
        if hasattr(self, "merger"):
            self.wait(100_000 + LATE_NS // MS)
            assert not self.merger._open
            assert self.published.keys() | self.missed == self.deadlines.keys()


TestMerge = MergeMachine.TestCase
TestMerge.settings = settings(max_examples=60, stateful_step_count=40)
