"""Whatever fails on the way, a pick-and-place ends, and says truly what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skyfog_planning.picking.grasp import GripperLimits
from skyfog_planning.picking.locate import Limits, Region
from skyfog_planning.picking.sequence import Finish, Grip, Look, Outcome, PickPlace, Reach, Step, Task

VIEWS = 2
SIDE = 0.04


def task(deadline_ns: int = 10**18, names: tuple[str, ...] = ()) -> Task:
    region = Region((0.2, -0.5, 0.005), (0.8, 0.5, 0.3))
    return Task(VIEWS, region, Limits(), GripperLimits(), names, (0.4, 0.5, 0.3), 0.05, 0.12, 3, deadline_ns)


def cube(x: float, y: float) -> np.ndarray:
    u, v = np.meshgrid(np.linspace(-SIDE / 2, SIDE / 2, 20), np.linspace(-SIDE / 2, SIDE / 2, 20))
    return np.stack([x + u.ravel(), y + v.ravel(), np.full(u.size, SIDE)], axis=1)


@dataclass
class Table:
    """Cubes, a gripper, and a list of what fails."""

    cubes: list[tuple[float, float]]
    fails: list[bool]
    binned: int = 0
    held: tuple[float, float] | None = None
    at: tuple[float, float] = (0.0, 0.0)
    low: bool = False
    drops: int = 0  # how often something is lost on the way to the bin
    looks: list[int] = field(default_factory=list)

    def perform(self, policy: PickPlace, step: Step, now_ns: int) -> Step:
        failing = self.fails.pop() if self.fails else False
        if isinstance(step, Grip):
            return policy.on_gripped(self._grip(step, failing), now_ns)
        if failing:
            return policy.on_failed("by chance", now_ns)
        if isinstance(step, Look):
            self.looks.append(step.view)
            return policy.on_looked([("cube", cube(*place)) for place in self.cubes], now_ns)
        assert isinstance(step, Reach)
        assert (step.held is not None) == (self.held is not None), "the planner must know what is held"
        x, y, z = step.base_from_tool[:3, 3]
        self.at, self.low = (float(x), float(y)), z < 0.1
        if self.drops and step.what == "carry":
            self.drops -= 1
            self.cubes.append((0.5, 0.1))
            self.held = None
        return policy.on_done(SIDE if self.held else 0.0, now_ns)

    def _grip(self, step: Grip, slips: bool) -> float:
        if step.opening_m > 0:
            if self.held is not None:
                over_bin = abs(self.at[1] - 0.5) < 0.1
                self.binned += over_bin
                if not over_bin:
                    self.cubes.append(self.at)
                self.held = None
            return step.opening_m
        near = [c for c in self.cubes if np.hypot(c[0] - self.at[0], c[1] - self.at[1]) < 0.01]
        if slips or not near or not self.low:
            return 0.0
        self.held = near[0]
        self.cubes.remove(near[0])
        return SIDE


def run(policy: PickPlace, table: Table, start_ns: int = 0) -> tuple[Outcome, int]:
    step, steps, now_ns = policy.start(start_ns), 0, start_ns
    while not isinstance(step, Finish):
        now_ns += 10**9
        steps += 1
        assert steps < 500, "it does not end"
        step = table.perform(policy, step, now_ns)
    return step.outcome, steps


PLACES = [(0.4, -0.2), (0.5, 0.0), (0.6, 0.2), (0.4, 0.15)]


def test_every_cube_lands_in_the_bin_when_nothing_fails() -> None:
    table = Table(list(PLACES), [])
    outcome, _ = run(PickPlace(task()), table)
    assert (outcome.placed, outcome.failures, outcome.why) == (["cube"] * 4, [], "")
    assert (table.binned, table.cubes, outcome.left, outcome.rounds) == (4, [], 0, 2)  # the second round finds nothing


def test_a_cube_that_slips_is_tried_again_after_a_new_scan() -> None:
    table = Table([(0.5, 0.0)], [True, False, False, False, False, False])  # popped from the end: the close slips
    outcome, _ = run(PickPlace(task()), table)
    assert outcome.placed == ["cube"]
    assert outcome.rounds == 3
    assert "not held" in outcome.failures[0]


def test_a_cube_that_is_lost_on_the_way_is_not_counted_and_picked_again() -> None:
    table = Table([(0.5, 0.0)], [], drops=1)
    outcome, _ = run(PickPlace(task()), table)
    assert (outcome.placed, table.binned, outcome.rounds) == (["cube"], 1, 3)
    assert "lost on the way" in outcome.failures[0]


def test_only_the_named_classes_are_picked() -> None:
    outcome, _ = run(PickPlace(task(names=("can",))), Table(list(PLACES), []))
    assert (outcome.placed, outcome.left, outcome.why) == ([], 0, "")


def test_no_view_is_not_an_empty_table() -> None:
    outcome, _ = run(PickPlace(task()), Table(list(PLACES), [True] * VIEWS))
    assert outcome.why == "no view could be taken"


def test_what_cannot_be_carried_is_let_go_at_once_and_tried_again() -> None:
    policy, table = PickPlace(task()), Table([(0.5, 0.0)], [])
    step = policy.start(0)
    while not (isinstance(step, Reach) and step.what == "carry"):
        step = table.perform(policy, step, 0)
    step = policy.on_failed("no plan", 0)
    assert isinstance(step, Grip)
    assert step.opening_m > 0
    while not isinstance(step, Finish):
        step = table.perform(policy, step, 0)
    assert step.outcome.placed == ["cube"]
    assert step.outcome.rounds == 3


@given(
    places=st.lists(st.sampled_from(PLACES), unique=True),
    fails=st.lists(st.booleans(), max_size=60),
    deadline_s=st.integers(1, 200),
)
def test_it_always_ends_holding_nothing_and_counts_what_is_in_the_bin(
    places: list[tuple[float, float]], fails: list[bool], deadline_s: int
) -> None:
    table = Table(list(places), fails)
    outcome, _ = run(PickPlace(task(deadline_ns=deadline_s * 10**9)), table)
    assert table.held is None
    assert table.binned == len(outcome.placed)
    assert len(table.cubes) + table.binned == len(places)
    if not outcome.why and not any(note.startswith("view") for note in outcome.failures):
        assert table.cubes == []
