"""Cameras and lidars agree with geometry: what is known to be somewhere is seen there."""

from __future__ import annotations

import numpy as np
import pytest
from integration.skyfog_world.conftest import Make

from skyfog_world.model import CameraSpec
from skyfog_world.mujoco_sim import Simulation
from skyfog_world.sensors import Cameras, Picture, scan

RED = "<material><diffuse>1 0 0</diffuse></material>"
# A red box whose near side is 2 m before the camera, 0.4 m wide and 0.2 m high, 0.3 m to the left and 0.1 m up.
BOX = (
    '<model name="box"><static>1</static><pose>2.5 0.3 1.1 0 0 0</pose><link name="l"><visual name="v">'
    f"<geometry><box><size>1 0.4 0.2</size></box></geometry>{RED}</visual></link></model>"
)
EYE = (
    '<model name="eye"><static>1</static><pose>0 0 1 0 0 0</pose><link name="l"><sensor name="s" type="{}">'
    "<camera><horizontal_fov>1.2</horizontal_fov><image><width>320</width><height>240</height></image>"
    "<clip><near>0.1</near><far>10</far></clip></camera></sensor></link></model>"
)
LIDAR = (
    '<model name="eye"><static>1</static><pose>0 0 1 0 0 0.5</pose><link name="l"><sensor name="s" type="gpu_lidar">'
    "<lidar><scan><horizontal><samples>181</samples><min_angle>-1.5</min_angle><max_angle>1.5</max_angle></horizontal>"
    "</scan><range><min>0.5</min><max>8</max></range></lidar></sensor></link></model>"
)
WALL = (
    '<model name="wall"><static>1</static><pose>{} 0 1 0 0 0</pose><link name="l"><visual name="v"><geometry><box>'
    "<size>1 40 2</size></box></geometry></visual></link></model>"
)


def look(simulation: Simulation) -> Picture:
    model, link, sensor = simulation.world.sensors()[0]
    with Cameras(simulation.model, simulation.world.background) as cameras:
        return cameras.take(simulation.data, model.name, link.name, sensor)


def test_a_known_box_is_where_the_pinhole_model_says_in_colour_and_depth(simulate: Make) -> None:
    simulation = simulate(BOX + EYE.format("rgbd_camera"))
    picture = look(simulation)
    assert picture.rgb is not None
    assert picture.depth is not None
    spec = simulation.world.sensors()[0][2].spec
    assert isinstance(spec, CameraSpec)
    red = (picture.rgb[:, :, 0] > 40) & (picture.rgb[:, :, 1] < picture.rgb[:, :, 0] // 2)
    near = np.abs(picture.depth - 2.0) < 1e-3
    assert near.sum() > 900
    assert (near & ~red).sum() == 0
    rows, columns = np.nonzero(near)
    # Left edge at y = 0.5, right at 0.1; top at z = 0.2 above the camera, bottom at 0; pixel u's middle is at u + 0.5.
    across = 160 - spec.focal_px * np.array([0.5, 0.1]) / 2
    down = 120 - spec.focal_px * np.array([0.2, 0.0]) / 2
    assert (columns.min(), columns.max() + 1) == pytest.approx(across, abs=1.0)
    assert (rows.min(), rows.max() + 1) == pytest.approx(down, abs=1.0)
    assert np.isposinf(picture.depth[~red]).all()
    assert (picture.rgb[~red] == 178).all()  # SDF's default background


def test_a_plain_camera_gives_no_depth_and_a_depth_camera_no_colour(simulate: Make) -> None:
    assert look(simulate(BOX + EYE.format("camera"))).depth is None
    picture = look(simulate(BOX + EYE.format("depth_camera")))
    assert picture.rgb is None
    assert picture.depth is not None
    assert np.isfinite(picture.depth).sum() > 900


def test_each_camera_has_its_own_clip_distances_whatever_is_drawn_with(simulate: Make) -> None:
    plain = EYE.format("depth_camera")
    blind_near = plain.replace('"eye"', '"near"').replace("<near>0.1", "<near>3")
    blind_far = plain.replace('"eye"', '"far"').replace("<far>10", "<far>1.5")
    middle = (115, 125)  # on the box
    depths = [look(simulate(first + plain + BOX)).depth for first in (blind_near, blind_far, "")]
    assert all(depth is not None for depth in depths)
    assert [float(depth[middle]) for depth in depths if depth is not None] == [-np.inf, np.inf, pytest.approx(2.0)]


def test_a_lidar_measures_a_known_wall(simulate: Make) -> None:
    simulation = simulate(WALL.format(4.5) + LIDAR)
    model, link, sensor = simulation.world.sensors()[0]
    ranges = scan(simulation.model, simulation.data, model, link, sensor)
    directions = np.linspace(-1.5, 1.5, 181) + 0.5
    expected = 4.0 / np.cos(directions)
    seen = (np.abs(directions) < np.pi / 2) & (expected < 8)
    assert ranges[seen] == pytest.approx(expected[seen], rel=1e-5)
    assert np.isposinf(ranges[~seen]).all()
    assert 0 < seen.sum() < 181


def test_a_wall_nearer_than_the_lidar_measures_is_minus_infinity(simulate: Make) -> None:
    simulation = simulate(WALL.format(0.8) + LIDAR)
    model, link, sensor = simulation.world.sensors()[0]
    ranges = scan(simulation.model, simulation.data, model, link, sensor)
    assert np.isneginf(ranges[60])  # straight at the wall, 0.3 m


def test_the_wrist_camera_sees_every_thing_of_the_table_in_its_colour(simulate: Make) -> None:
    picture = look(simulate("tabletop"))
    assert picture.rgb is not None
    assert picture.depth is not None
    rgb = picture.rgb.astype(int)
    red, green, blue = rgb[:, :, 0], rgb[:, :, 1], rgb[:, :, 2]
    masks = {
        "red": (red > 100) & (green < 50) & (blue < 50),
        "green": (green > 60) & (red < 40) & (blue < 60),
        "blue": (blue > 90) & (red < 60) & (green < 90),
        "yellow": (red > 100) & (green > 90) & (blue < 60),
        "purple": (red > 60) & (blue > 70) & (green < 50),
    }
    table = float(np.median(picture.depth))
    for name, mask in masks.items():
        assert mask.sum() > 150, name
        assert 0.03 < table - float(picture.depth[mask].min()) < 0.08, name
