"""Calls at a pace, in lanes side by side."""

from __future__ import annotations

from itertools import pairwise

from skyfog_bench.messages import number
from skyfog_bench.pace import Call, Done, pace


def test_lanes_take_turns_with_the_same_indices_and_late_answers_hold_up_nobody() -> None:
    held: list[Done] = []

    def prompt(_number: int, done: Done) -> None:
        done(0, 2)

    def late(_number: int, done: Done) -> None:
        held.append(done)

    made = pace({"prompt": (0, prompt), "late": (1, late)}, count=5, hz=200.0, first=7, limit_s=0.05)
    calls = {lane: [Call(*call) for call in made[lane]] for lane in made}
    assert [call.number for call in calls["prompt"]] == [number(0, i) for i in range(7, 12)]
    assert [call.number for call in calls["late"]] == [number(1, i) for i in range(7, 12)]
    assert all(call.status == 0 and call.asked == 2 for call in calls["prompt"])
    assert all(call.answered_ns is None and call.status is None for call in calls["late"])
    assert len(held) == 5
    due = sorted(call.due_ns for lane in calls.values() for call in lane)
    gaps = {b - a for a, b in pairwise(due)}
    assert max(gaps) - min(gaps) <= 2  # evenly between each other, but for rounding
    assert all(call.sent_ns >= call.due_ns for lane in calls.values() for call in lane)
