"""The checker against an arm whose geometry can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.arms import box, two_links

pytest.importorskip("coal", reason="coal is not installed: ./ws extra planning")

from skyfog_planning.check import STEP_M, Checker
from skyfog_planning.kinematics import Chain
from skyfog_planning.problem import Body, Box, JointGoal, Problem, Trajectory, translation


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    return Checker(two_links(tmp_path))


def swing(to: float = 1.0, seconds: float = 4.0, steps: int = 400) -> Trajectory:
    """Joint a from 0 to `to` along a cubic, b at 0."""
    t = np.linspace(0, seconds, steps + 1)
    s = t / seconds
    a, v, c = 3 * s**2 - 2 * s**3, (6 * s - 6 * s**2) / seconds, (6 - 12 * s) / seconds**2
    zero = np.zeros_like(t)
    return Trajectory(("a", "b"), t, *(np.stack([to * one, zero], axis=1) for one in (a, v, c)))


def problem(to: float = 1.0, **fields: Any) -> Problem:
    return Problem(**{"start": {"a": 0.0, "b": 0.0}, "goal": JointGoal({"a": to, "b": 0.0}), "robot": "two", **fields})


def test_the_tip_is_where_trigonometry_puts_it(checker: Checker) -> None:
    tip = checker.tool_pose(problem(), np.array([0.3, 0.5]))
    assert tip[:3, 3] == pytest.approx([math.cos(0.3) + math.cos(0.8), math.sin(0.3) + math.sin(0.8), 0.0])
    assert tip[:2, 0] == pytest.approx([math.cos(0.8), math.sin(0.8)])


def test_a_free_swing_passes_with_its_smallest_distance(checker: Checker) -> None:
    # A ball's box beside the tip's end: the arm's side, 5 cm from its middle line, passes the corner at x = 1.9.
    verdict = checker.check(problem(bodies=(box("under", (0.2, 0.2, 0.1), 1.0, -0.25, 0.0),)), swing())
    assert verdict.problems == ()
    assert verdict.min_clearance_m == pytest.approx(0.10, abs=1e-6)


def test_a_thin_wall_across_the_way_is_found_where_it_stands(checker: Checker) -> None:
    angle = 0.5
    wall = box("wall", (0.02, 0.001, 0.2), 1.99 * math.cos(angle), 1.99 * math.sin(angle), 0.0, yaw=angle)
    verdict = checker.check(problem(bodies=(wall,)), swing(steps=20))
    assert len(verdict.problems) == 1
    assert "lower touches wall" in verdict.problems[0]
    # Its middle line comes to 0.5 rad half-way; the side of the link 0.05 m / 1.99 m earlier.
    assert float(verdict.problems[0].split(" at ")[1].split()[0]) == pytest.approx(0.48, abs=0.02)


def test_between_samples_no_point_moves_more_than_the_step(checker: Checker) -> None:
    samples, share = checker._samples(problem(), swing(steps=20))
    tips = np.array([checker.tool_pose(problem(), q)[:3, 3] for q in samples])
    assert np.linalg.norm(np.diff(tips, axis=0), axis=1).max() <= STEP_M
    assert len(samples) > 2.0 / STEP_M  # the tip's way is 2 m
    assert (np.diff(share) > 0).all()
    assert (samples[0], samples[-1]) == (pytest.approx([0, 0]), pytest.approx([1, 0]))


def test_slow_way_points_are_thinned_but_no_step_is_too_long(checker: Checker) -> None:
    samples, _ = checker._samples(problem(to=0.1), swing(to=0.1, steps=4000))
    tips = np.array([checker.tool_pose(problem(), q)[:3, 3] for q in samples])
    assert np.linalg.norm(np.diff(tips, axis=0), axis=1).max() <= STEP_M
    assert len(samples) < 100


def test_what_is_carried_touches_and_what_is_allowed_may(checker: Checker) -> None:
    carried = Body("pole", ((Box((1.0, 0.02, 0.02)), translation(0.5, 0.0, 0.0)),))
    post = box("post", (0.05, 0.05, 0.5), 2.9 * math.cos(0.5), 2.9 * math.sin(0.5), 0.0)
    assert checker.check(problem(bodies=(post,)), swing()).passed
    verdict = checker.check(problem(bodies=(post,), attached=(carried,)), swing())
    assert "pole touches post" in verdict.problems[0]
    allowed = problem(bodies=(post,), attached=(carried,), allowed=frozenset({"post"}))
    assert checker.check(allowed, swing()).passed


def broken(**changes: Any) -> Trajectory:
    return replace(swing(), **changes)


GOOD = swing()
FAST = swing(seconds=1.4)  # 1.07 rad/s at its middle, with a limit of 1
HARD = swing(to=0.4, seconds=1.0)  # 2.4 rad/s^2 at its ends, with a limit of 2


@pytest.mark.parametrize(
    ("trajectory", "fields", "part"),
    [
        (FAST, {}, "a: velocity limit"),
        (HARD, {"goal": JointGoal({"a": 0.4, "b": 0.0})}, "a: acceleration limit"),
        (GOOD, {"velocity_scaling": 0.3}, "a: velocity limit"),
        (GOOD, {"acceleration_scaling": 0.1}, "a: acceleration limit"),
        (swing(to=3.1, seconds=9.0), {"goal": JointGoal({"a": 3.1, "b": 0.0})}, "a: position limit"),
        (GOOD, {"goal": JointGoal({"a": 1.1, "b": 0.0})}, "does not end at the goal"),
        (GOOD, {"start": {"a": 0.1, "b": 0.0}}, "does not begin at the start"),
        (broken(velocities=GOOD.velocities * 0), {}, "velocities do not fit positions"),
        (broken(velocities=GOOD.velocities + 0.01), {}, "not at rest"),
        (broken(times=GOOD.times[::-1]), {}, "times do not rise from 0"),
        (broken(positions=GOOD.positions * np.nan), {}, "not finite"),
        (broken(joints=("b", "a")), {}, "way-points of b, a"),
        (broken(velocities=GOOD.velocities[:-1]), {}, "differ in shape"),
    ],
)
def test_each_fault_of_a_trajectory_is_named(
    checker: Checker, trajectory: Trajectory, fields: dict[str, Any], part: str
) -> None:
    verdict = checker.check(problem(**fields), trajectory)
    assert any(part in fault for fault in verdict.problems), verdict.problems


def test_roll_pitch_and_yaw_turn_about_fixed_axes(tmp_path: Path) -> None:
    urdf = tmp_path / "turned.urdf"
    urdf.write_text(
        '<robot name="r"><link name="a"/><link name="b"/><joint name="j" type="fixed"><parent link="a"/>'
        '<child link="b"/><origin rpy="1.5707963267948966 0 1.5707963267948966" xyz="0 0 1"/></joint></robot>'
    )
    pose = Chain(urdf, tmp_path).poses({"none": np.zeros(1)})[0, 1]
    # First about x: y -> z. Then about z: x -> y, while z stays.
    assert pose[:3, 0] == pytest.approx([0, 1, 0], abs=1e-12)
    assert pose[:3, 1] == pytest.approx([0, 0, 1], abs=1e-12)
    assert pose[:3, 3] == pytest.approx([0, 0, 1])
