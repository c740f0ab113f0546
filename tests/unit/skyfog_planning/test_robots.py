"""Robot folders: what they must say, and how joints are taken from a request."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from skyfog_core.errors import ConfigError
from skyfog_planning.problem import Code, PlanError
from skyfog_planning.robots import read_robot
from support.arms import TWO_LINKS_YAML, two_links


def test_joints_are_taken_by_name_in_any_order(tmp_path: Path) -> None:
    robot = two_links(tmp_path)
    assert robot.arm_positions("start", {"b": 2.0, "a": 1.0}).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("named", "part"),
    [
        ({"a": 1.0}, "start: no position for b"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "start: two has no joint 'c'"),
        ({"a": math.inf, "b": 1.0}, "start: a is inf"),
    ],
)
def test_joints_that_do_not_fit_are_named(tmp_path: Path, named: dict[str, float], part: str) -> None:
    with pytest.raises(PlanError, match=part) as caught:
        two_links(tmp_path).arm_positions("start", named)
    assert caught.value.code is Code.INVALID


def test_joints_of_another_machine_are_passed_over_where_allowed(tmp_path: Path) -> None:
    robot = two_links(tmp_path)
    assert robot.arm_positions("start", {"a": 1.0, "b": 2.0, "wheel": 9.0}, strangers=True).tolist() == [1.0, 2.0]


def test_a_position_outside_its_limits_is_named_with_them(tmp_path: Path) -> None:
    robot = two_links(tmp_path)
    robot.check_limits("start", Code.START_OUTSIDE_LIMITS, robot.upper)
    with pytest.raises(PlanError, match=r"start: b is 3.1000 rad, limits -3.0 .. 3.0"):
        robot.check_limits("start", Code.START_OUTSIDE_LIMITS, robot.upper + np.array([0.0, 0.1]))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("urdf: two.urdf", "urdf: three.urdf", "urdf: .*three.urdf does not exist"),
        ("urdf: two.urdf", "urdf: python://no_such_package/x.urdf", "Python package no_such_package is not installed"),
        ("ready: [0.0, 0.0]", "ready: [0.0]", "ready has 1 positions for 2 joints"),
        ("lower: -3.0, upper: 3.0", "lower: 3.0, upper: -3.0", "lower must be below upper"),
        ("[[upper, lower]]", "[[upper]]", "is no pair of links"),
        ("tool_links", "tool_lniks", "did you mean 'tool_links'"),
    ],
)
def test_a_wrong_robot_folder_is_refused_by_file_and_key(tmp_path: Path, old: str, new: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        two_links(tmp_path, TWO_LINKS_YAML.replace(old, new, 1))


def test_an_unknown_robot_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no robot 'pandas'; did you mean 'panda'\? \(there are: panda\)"):
        read_robot("pandas")
