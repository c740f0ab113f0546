"""What a request may hold: each fault is named, with the field and what is allowed."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from skyfog_planning.problem import (
    Body,
    Box,
    Code,
    Cylinder,
    Mesh,
    PlanError,
    PoseGoal,
    Sphere,
    path_length,
    pose_of,
    translation,
)
from support.arms import POST, box, panda_problem

TRIANGLE = np.array([[0, 1, 2]], np.int32)
CORNERS = np.eye(3)


def body(shape: Any, identity: str = "thing") -> Body:
    return Body(identity, ((shape, np.eye(4)),))


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"velocity_scaling": 1.01}, "max_velocity_scaling: 1.01 is not in (0, 1]"),
        ({"acceleration_scaling": math.nan}, "max_acceleration_scaling: nan"),
        ({"budget_s": -1.0}, "time_budget_s: -1.0 is not above 0"),
        ({"quality": 0.5}, "quality: 0.5 is neither 0"),
        ({"quality": math.inf}, "quality: inf"),
        ({"cartesian": True}, "cartesian: needs goal_pose"),
        ({"goal": PoseGoal(np.full((4, 4), np.nan))}, "goal_pose: its pose holds a value that is not finite"),
        ({"goal": PoseGoal(translation(200, 0, 0))}, "goal_pose: is farther than 100 m"),
        ({"goal": PoseGoal(np.eye(4), position_tolerance_m=0.0)}, "position_tolerance_m: 0.0 is not in (0, 1]"),
        ({"bodies": (POST, POST)}, "objects: twice the id 'post'"),
        ({"bodies": (POST,), "attached": (POST,)}, "attached: twice the id 'post'"),
        ({"bodies": (Body("", ((Sphere(1.0), np.eye(4)),)),)}, "objects: an empty id"),
        ({"bodies": (Body("x", ()),)}, "objects[x]: has no shape"),
        ({"bodies": (body(Box((1.0, 0.0, 1.0))),)}, "objects[thing] shape 0: a box of (1.0, 0.0, 1.0) m"),
        ({"bodies": (body(Sphere(math.nan)),)}, "a sphere of"),
        ({"attached": (body(Cylinder(-1.0, 1.0)),)}, "attached[thing] shape 0: a cylinder of"),
        ({"bodies": (body(Mesh(CORNERS, TRIANGLE + 1)),)}, "a triangle names vertex 3 of 3"),
        ({"bodies": (body(Mesh(CORNERS * 1e9, TRIANGLE)),)}, "a vertex is not within 100 m"),
        ({"bodies": (body(Mesh(CORNERS, TRIANGLE[:0])),)}, "a mesh of 0 triangles"),
        ({"bodies": (POST,), "allowed": frozenset({"posts"})}, "allowed_collisions: no object has the id 'posts'"),
        ({"cloud": np.full((1, 3), 1e9)}, "cloud: a point is farther than 100 m"),
        ({"cloud": np.zeros((1, 3)), "cloud_resolution_m": 0.0}, "cloud_resolution_m: 0.0 is not in"),
        (
            {"bodies": tuple(box(str(i), (1, 1, 1), 9, 9, 9) for i in range(1001))},
            "objects: 1001 of them, at most 1000",
        ),
    ],
)
def test_a_wrong_request_is_refused_by_name(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(PlanError) as caught:
        panda_problem(**fields).check()
    assert caught.value.code is Code.INVALID
    assert part in str(caught.value)


def test_a_right_request_passes() -> None:
    panda_problem(bodies=(POST, body(Mesh(CORNERS, TRIANGLE))), allowed=frozenset({"post"}), quality=1.0).check()


def test_a_quaternion_turns_and_one_of_zeros_does_not() -> None:
    quarter = pose_of((1, 2, 3), (0, 0, math.sin(math.pi / 4), math.cos(math.pi / 4)))
    assert quarter @ [1, 0, 0, 1] == pytest.approx([1, 3, 3, 1])
    assert np.array_equal(pose_of((0, 0, 0), (0, 0, 0, 0)), np.eye(4))
    with pytest.raises(PlanError, match="length 2, not 1"):
        pose_of((0, 0, 0), (0, 0, 0, 2))


def test_an_error_survives_the_way_between_processes() -> None:
    back = pickle.loads(pickle.dumps(PlanError(Code.GOAL_UNREACHABLE, "too far")))
    assert (back.code, str(back)) == (Code.GOAL_UNREACHABLE, "too far")


def test_the_length_of_a_path_is_euclidean() -> None:
    assert path_length(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])) == 6.0
