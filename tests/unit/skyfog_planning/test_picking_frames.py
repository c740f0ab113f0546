from __future__ import annotations

import numpy as np
import pytest

from skyfog_core.poses import from_quaternion
from skyfog_planning.picking.frames import FrameTree, UnknownFrame

QUARTER = (np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))  # a quarter turn to the left about z


def test_frames_are_joined_through_their_nearest_common_ancestor() -> None:
    tree = FrameTree()
    tree.heard("world", "base", from_quaternion((0, 0, 0.4), (1, 0, 0, 0)))
    tree.heard("base", "hand", from_quaternion((0.5, 0, 0.3), QUARTER))
    tree.heard("world", "table", from_quaternion((1, 0, 0), (1, 0, 0, 0)))
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
