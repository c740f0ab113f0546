"""Poses compose and invert; quaternions say the same as matrices; scenes never overlap."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfog_core.poses import Pose, from_quaternion, inverse, quaternion
from skyfog_world.frames import FrameTree, from_rpy, yaw_of, z_onto
from skyfog_world.model import SceneSpec
from skyfog_world.placing import draw_places

ANGLES = st.floats(-math.pi, math.pi)
METRES = st.floats(-100, 100)
POSES = st.builds(from_rpy, METRES, METRES, METRES, ANGLES, ANGLES, ANGLES)


def same(one: Pose, other: Pose) -> bool:
    return bool(np.allclose(one, other, atol=1e-9))


@given(POSES, POSES)
def test_the_inverse_of_a_chain_is_the_chain_of_inverses(a: Pose, b: Pose) -> None:
    assert same(inverse(a) @ a, np.eye(4))
    assert same(inverse(a @ b), inverse(b) @ inverse(a))


@given(POSES)
def test_a_quaternion_says_the_same_as_its_matrix(pose: Pose) -> None:
    q = quaternion(pose)
    assert math.hypot(*q) == pytest.approx(1.0)
    assert q[0] >= 0
    assert same(from_quaternion(pose[:3, 3], q), pose)


@given(st.floats(-3.1, 3.1), METRES, METRES)
def test_the_yaw_of_a_level_pose_is_its_yaw(yaw: float, x: float, y: float) -> None:
    assert yaw_of(from_rpy(x, y, 0, 0, 0, yaw)) == pytest.approx(yaw)


@given(st.tuples(METRES, METRES, METRES).filter(lambda normal: math.hypot(*normal) > 1e-3))
def test_z_is_taken_onto_any_normal_by_a_rotation(normal: tuple[float, float, float]) -> None:
    turn = z_onto(normal)
    assert turn[:3, 2] == pytest.approx(np.array(normal) / math.hypot(*normal), abs=1e-9)
    assert np.linalg.det(turn[:3, :3]) == pytest.approx(1.0)


@given(st.lists(POSES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_frames_may_be_stated_in_any_order(poses: list[Pose], order: st.DrawFn) -> None:
    names = ["root", *(str(n) for n in range(len(poses)))]
    stated = list(zip(names[1:], names, poses, strict=False))
    order.shuffle(stated)
    tree = FrameTree("root")
    for name, above, pose in stated:
        tree.state(name, above, pose)
    expected = np.eye(4)
    for pose in poses:
        expected = expected @ pose
    assert same(tree.pose(names[-1]), expected)


@given(st.integers(0, 2**64 - 1), st.lists(st.floats(0.01, 0.04), min_size=1, max_size=6))
def test_no_seed_makes_things_overlap_and_each_is_repeated(seed: int, radii: list[float]) -> None:
    spec = SceneSpec((), (0.3, -0.3), (0.7, 0.3), 0.03)
    named = {str(n): radius for n, radius in enumerate(radii)}
    places = draw_places(named, spec, seed)
    for (a, one), (b, other) in combinations(places.items(), 2):
        assert math.hypot(one.x - other.x, one.y - other.y) >= named[a] + named[b] + spec.gap
    assert all(0.3 <= p.x <= 0.7 and -0.3 <= p.y <= 0.3 and -math.pi <= p.yaw <= math.pi for p in places.values())
    assert places == draw_places(named, spec, seed)
