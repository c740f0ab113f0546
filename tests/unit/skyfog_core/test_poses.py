from __future__ import annotations

import numpy as np
import pytest

from skyfog_core.poses import Quaternion, from_quaternion, inverse, quaternion

QUARTER = (np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))  # a quarter turn to the left about z


def test_a_pose_takes_points_of_its_frame_to_the_frame_it_is_stated_in() -> None:
    pose = from_quaternion((1.0, 2.0, 3.0), QUARTER)
    assert pose @ [1, 0, 0, 1] == pytest.approx([1, 3, 3, 1])
    assert inverse(pose) @ [1, 3, 3, 1] == pytest.approx([1, 0, 0, 1])


@pytest.mark.parametrize(
    "given", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), QUARTER, (0.5, 0.5, 0.5, -0.5)]
)
def test_a_quaternion_survives_being_a_matrix(given: Quaternion) -> None:
    assert quaternion(from_quaternion((0, 0, 0), given)) == pytest.approx(given)


def test_a_quaternion_without_length_is_no_rotation() -> None:
    with pytest.raises(ValueError, match="no rotation"):
        from_quaternion((0, 0, 0), (0, 0, 0, 0))
