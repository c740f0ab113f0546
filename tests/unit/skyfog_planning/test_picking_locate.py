from __future__ import annotations

import numpy as np
import pytest

from skyfog_planning.picking.grasp import GripperLimits, downward, grasps
from skyfog_planning.picking.locate import Camera, Limits, Located, Region, clusters, deproject, find_objects, thin

REGION = Region((0.2, -0.5, 0.005), (0.8, 0.5, 0.3))
CAMERA = Camera(fx=300.0, fy=300.0, cx=160.0, cy=120.0)


def box(x: float, y: float, yaw: float, length: float, width: float, height: float) -> np.ndarray:
    """Points on the top and the sides of an upright box on the table."""
    u, v, w = np.meshgrid(np.linspace(-0.5, 0.5, 25), np.linspace(-0.5, 0.5, 25), np.linspace(0, 1, 15))
    shell = (np.abs(u) == 0.5) | (np.abs(v) == 0.5) | (w == 1)
    along, across, up = u[shell] * length, v[shell] * width, w[shell] * height
    return np.stack(
        [x + along * np.cos(yaw) - across * np.sin(yaw), y + along * np.sin(yaw) + across * np.cos(yaw), up], axis=1
    )


def test_depth_becomes_points_along_the_pixel_rays() -> None:
    depth = np.full((240, 320), 2.0, np.float32)
    mask = np.zeros((240, 320), bool)
    mask[119:122, 309:312] = True  # the middle one stays after the edge is taken off
    assert deproject(depth, mask, CAMERA) == pytest.approx(np.array([[1.0, 0.0, 2.0]]))


@pytest.mark.parametrize("nothing", [0.0, np.inf, np.nan])
def test_pixels_without_a_depth_are_left_out(nothing: float) -> None:
    depth = np.full((240, 320), nothing, np.float32)
    assert len(deproject(depth, np.ones((240, 320), bool), CAMERA)) == 0


def test_thinning_keeps_one_point_a_voxel_at_its_mean() -> None:
    points = np.array([[0.001, 0.001, 0.001], [0.003, 0.003, 0.003], [0.011, 0.0, 0.0]])
    assert thin(points, 0.01) == pytest.approx(np.array([[0.002, 0.002, 0.002], [0.011, 0, 0]]))


def test_clouds_further_apart_than_the_gap_are_two() -> None:
    two = np.concatenate([box(0.4, 0, 0, 0.04, 0.04, 0.04), box(0.4, 0.06, 0, 0.04, 0.04, 0.04)])
    assert len(clusters(two, 0.012)) == 2
    assert len(clusters(two, 0.025)) == 1


def test_objects_are_found_with_their_place_turn_and_size() -> None:
    clouds = [("cube", box(0.5, 0.1, 0.3, 0.08, 0.04, 0.05)), ("can", box(0.4, -0.2, 0.0, 0.04, 0.04, 0.12))]
    can, cube = find_objects(clouds, REGION, Limits())
    assert (can.class_name, cube.class_name) == ("can", "cube")
    assert (cube.x, cube.y, cube.yaw) == pytest.approx((0.5, 0.1, 0.3), abs=0.01)
    assert (cube.length, cube.width, cube.top) == pytest.approx((0.08, 0.04, 0.05), abs=0.005)
    assert cube.bottom == 0.0


def test_two_views_of_one_object_are_one_object() -> None:
    whole = box(0.5, 0.1, 0.0, 0.05, 0.05, 0.05)
    left, right = whole[whole[:, 1] < 0.11], whole[whole[:, 1] > 0.09]
    assert len(find_objects([("cube", left), ("cube", right)], REGION, Limits())) == 1


def test_what_lies_outside_the_region_is_too_small_or_too_large_is_no_object() -> None:
    outside = box(1.5, 0, 0, 0.05, 0.05, 0.05)
    speck = box(0.5, 0, 0, 0.004, 0.004, 0.01)
    table = box(0.5, 0, 0, 0.5, 0.5, 0.05)
    assert find_objects([("cube", outside), ("cube", speck), ("table", table)], REGION, Limits()) == []


def located(length: float, width: float, top: float = 0.05, yaw: float = 0.2) -> Located:
    return Located("cube", 0.5, 0.1, 0.0, top, yaw, length, width, 100)


def test_a_tool_that_points_down_is_a_rotation_with_its_axis_downwards() -> None:
    pose = downward(0.1, 0.2, 0.3, 0.7)
    assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3))
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    assert pose[:3, 2] == pytest.approx([0, 0, -1])


def test_fingers_close_across_the_narrower_side_and_stay_above_the_table() -> None:
    best = grasps(located(0.1, 0.04), GripperLimits())[0]
    closing = best.base_from_tool[:3, 1]
    assert abs(closing @ [-np.sin(0.2), np.cos(0.2), 0]) == pytest.approx(1.0)
    assert best.width == 0.04
    assert best.base_from_tool[2, 3] == pytest.approx(0.025)
    flat = grasps(located(0.05, 0.04, top=0.01), GripperLimits())[0]
    assert flat.base_from_tool[2, 3] == pytest.approx(0.008)


def test_a_square_object_has_four_grasps_a_long_one_two_a_wide_one_none() -> None:
    assert len(grasps(located(0.05, 0.05), GripperLimits())) == 4
    assert len(grasps(located(0.1, 0.05), GripperLimits())) == 2
    assert grasps(located(0.1, 0.075), GripperLimits()) == []
