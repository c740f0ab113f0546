"""Trajectories are followed as stated; wheels turn and are counted as the formulas say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skyfog_core.errors import InvalidRequest
from skyfog_core.units import S
from skyfog_world.control import Follower, Trajectory, WheelCounter, hermite, wheel_speeds
from skyfog_world.model import DiffDrive

DRIVE = DiffDrive(("l",), ("r",), 0.36, 0.08, "cmd_vel", "odom", "odom", "base", 50.0)


def follower() -> Follower:
    return Follower({"a": (-2.0, 2.0), "b": (0.0, 0.04)}, {"a": 0.0, "b": 0.04})


def way(*points: tuple[float, float], joint: str = "a", velocities: list[float] | None = None) -> Trajectory:
    """Points of time in seconds and position."""
    return Trajectory(
        (joint,),
        tuple(round(time * S) for time, _ in points),
        np.array([[position] for _, position in points]),
        None if velocities is None else np.array([[v] for v in velocities]),
    )


def test_between_points_without_velocities_the_way_is_straight_from_where_the_joint_was() -> None:
    robot = follower()
    robot.follow(way((1, 1.0), (3, 0.0)), 10 * S)
    expected = {10.0: (0.0, 0.0), 10.5: (0.5, 1.0), 11.5: (0.75, -0.5), 13.0: (0.0, 0.0), 99.0: (0.0, 0.0)}
    for when, target in expected.items():
        assert robot.targets(round(when * S))["a"] == pytest.approx(target), when
    assert robot.targets(99 * S)["b"] == (0.04, 0.0)


def test_with_velocities_the_way_is_a_cubic_that_meets_them() -> None:
    robot = follower()
    robot.follow(way((0, 0.0), (2, 1.0), velocities=[0.0, 0.0]), 0)
    assert robot.targets(S)["a"] == pytest.approx((0.5, 0.75))  # 3t²-2t³, halfway; slope 1.5 over 2 s
    assert hermite(1.0, 2.0, 3.0, 4.0, 0.0, 1.0) == (1.0, 3.0)
    assert hermite(1.0, 2.0, 3.0, 4.0, 1.0, 1.0) == (2.0, 4.0)


def test_a_new_trajectory_begins_where_the_old_one_was_and_leaves_other_joints_alone() -> None:
    robot = follower()
    robot.follow(way((2, 2.0)), 0)
    robot.follow(way((1, 0.0), joint="b"), 0)
    assert robot.targets(round(0.5 * S))["b"][0] == pytest.approx(0.02)
    robot.follow(way((1, 0.0)), S)
    assert robot.targets(S)["a"][0] == pytest.approx(1.0)
    assert robot.targets(round(1.5 * S))["a"][0] == pytest.approx(0.5)
    assert robot.moving(round(1.9 * S))
    assert not robot.moving(2 * S)


BAD = {
    "unknown": (lambda: way((1, 0.0), joint="c"), "there is no joint 'c' (there are: a, b)"),
    "too far": (lambda: way((1, 0.0), (2, 2.5)), "a would be at 2.5, outside -2 to 2"),
    "no points": (way, "points: there are none"),
    "not rising": (lambda: way((1, 0.0), (1, 1.0)), "time_from_start must rise"),
    "NaN": (lambda: way((1, math.nan)), "positions are not all finite"),
    "twice": (lambda: Trajectory(("a", "a"), (1,), np.zeros((1, 2))), "each joint must be named once"),
    "shape": (lambda: Trajectory(("a",), (1,), np.zeros((1, 2))), "positions are [1, 2], not [1, 1]"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_trajectory_is_refused_and_changes_nothing(name: str) -> None:
    make, part = BAD[name]
    robot = follower()
    with pytest.raises(InvalidRequest) as caught:
        robot.follow(make(), 0)
    assert part in str(caught.value)
    assert robot.targets(S) == {"a": (0.0, 0.0), "b": (0.04, 0.0)}


def test_wheels_turn_as_fast_as_the_ground_below_them() -> None:
    assert wheel_speeds(DRIVE, 0.4, 0.0) == pytest.approx((5.0, 5.0))
    assert wheel_speeds(DRIVE, 0.0, 1.0) == pytest.approx((-2.25, 2.25))


def test_the_wheels_of_an_arc_are_counted_to_its_end() -> None:
    counter = WheelCounter(DRIVE, 3.0, 4.0)
    left, right = wheel_speeds(DRIVE, 0.4, 0.5)
    for step in range(1, 31):
        counter.count(3.0 + left * 0.1 * step, 4.0 + right * 0.1 * step, 0.1)
    now, radius = counter.now, 0.4 / 0.5
    assert (now.x, now.y) == pytest.approx((radius * math.sin(1.5), radius * (1 - math.cos(1.5))))
    assert (now.yaw, now.linear, now.angular) == pytest.approx((1.5, 0.4, 0.5))
