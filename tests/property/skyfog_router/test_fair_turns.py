"""Robots that always have something waiting use about the same time, whatever their runs take."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from skyfog_router.policy.fairness import LEAST_COST_NS, Job, Turns

LONGEST_NS = 100 * LEAST_COST_NS


@given(
    costs=st.lists(st.integers(1, 100), min_size=2, max_size=6),
    slots=st.integers(1, 3),
    expected=st.integers(0, 100),
    runs=st.integers(10, 120),
)
def test_no_robot_is_more_than_a_run_a_slot_ahead_of_another(
    costs: list[int], slots: int, expected: int, runs: int
) -> None:
    turns, used_ns, running = Turns(), Counter[str](), list[tuple[int, Job]]()
    now_ns = made = 0

    def ask(robot: int) -> None:
        nonlocal made
        turns.add(Job(made.to_bytes(16, "big"), str(robot), 0, now_ns, 10**18))
        made += 1

    for robot in range(len(costs)):
        for _ in range(slots + 1):
            ask(robot)
    for _ in range(runs):
        while len(running) < slots:
            job = turns.next()
            turns.start(job, expected * LEAST_COST_NS)
            ask(int(job.robot))
            running.append((now_ns + costs[int(job.robot)] * LEAST_COST_NS, job))
        running.sort(key=lambda one: one[0])
        now_ns, job = running.pop(0)
        turns.end(job, costs[int(job.robot)] * LEAST_COST_NS)
        used_ns[job.robot] += costs[int(job.robot)] * LEAST_COST_NS
        turns.check()
    used = [used_ns[str(robot)] for robot in range(len(costs))]
    assert max(used) - min(used) <= 2 * slots * LONGEST_NS
