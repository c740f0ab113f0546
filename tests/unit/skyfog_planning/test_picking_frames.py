from __future__ import annotations

import numpy as np
import pytest

from skyfog_planning.picking.frames import FrameTree, UnknownFrame, invert, quaternion, transform

QUARTER = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))  # a quarter turn to the left about z


def test_a_transform_takes_points_of_its_second_frame_to_its_first() -> None:
    a_from_b = transform((1.0, 2.0, 3.0), QUARTER)
    assert a_from_b @ [1, 0, 0, 1] == pytest.approx([1, 3, 3, 1])
    assert invert(a_from_b) @ [1, 3, 3, 1] == pytest.approx([1, 0, 0, 1])


@pytest.mark.parametrize(
    "given", [(0, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), QUARTER, (0.5, 0.5, -0.5, 0.5)]
)
def test_a_quaternion_survives_being_a_matrix(given: tuple[float, float, float, float]) -> None:
    assert quaternion(transform((0, 0, 0), given)[:3, :3]) == pytest.approx(given)


def test_a_zero_quaternion_is_no_rotation() -> None:
    with pytest.raises(ValueError, match="no rotation"):
        transform((0, 0, 0), (0, 0, 0, 0))


def test_frames_are_joined_through_their_nearest_common_ancestor() -> None:
    tree = FrameTree()
    tree.heard("world", "base", transform((0, 0, 0.4), (0, 0, 0, 1)))
    tree.heard("base", "hand", transform((0.5, 0, 0.3), QUARTER))
    tree.heard("world", "table", transform((1, 0, 0), (0, 0, 0, 1)))
    assert tree.lookup("base", "hand")[:3, 3] == pytest.approx([0.5, 0, 0.3])
    assert tree.lookup("table", "hand")[:3, 3] == pytest.approx([-0.5, 0, 0.7])
    assert tree.lookup("hand", "base") @ tree.lookup("base", "hand") == pytest.approx(np.eye(4))
    assert tree.lookup("hand", "hand") == pytest.approx(np.eye(4))


def test_frames_that_are_not_joined_are_named_with_those_that_are_known() -> None:
    tree = FrameTree()
    tree.heard("world", "base", np.eye(4))
    with pytest.raises(UnknownFrame, match=r"camera and base are not joined .*known frames: base, world"):
        tree.lookup("base", "camera")


def test_a_loop_is_an_error_and_no_hang() -> None:
    tree = FrameTree()
    tree.heard("a", "b", np.eye(4))
    tree.heard("b", "a", np.eye(4))
    with pytest.raises(UnknownFrame, match="loop"):
        tree.lookup("c", "a")
