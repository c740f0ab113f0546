"""The embedded simulator beside the real Gazebo classic 11, on the same worlds."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("mujoco is not installed: ./ws extra world", allow_module_level=True)

from gazebo.skyfog_world.classic_server import ROOT, run_gazebo

from skyfog_core.units import S
from skyfog_world.frames import yaw_of
from skyfog_world.model import LidarSpec
from skyfog_world.mujoco_sim import Simulation
from skyfog_world.sdf import load
from skyfog_world.sensors import Cameras, scan

pytestmark = pytest.mark.timeout(1_200)  # the first test fetches Gazebo
EDGE = 30  # of the summed colour between neighbours
DRIVE = ["base", 0.4, 0.2, 6.0]


def simulated(name: str) -> Simulation:
    """At rest, and without traffic: in Gazebo it stands where the file has it."""
    simulation = Simulation(dataclasses.replace(load(ROOT / "sim_worlds" / f"{name}.sdf"), traffic=None))
    simulation.advance(2 * S)
    return simulation


def edges(image: np.ndarray) -> np.ndarray:
    """bool [H-1, W-1]: where a pixel differs from its right or lower neighbour."""
    summed = image.astype(int).sum(axis=2)
    across = np.abs(np.diff(summed, axis=1))[:-1] > EDGE
    down = np.abs(np.diff(summed, axis=0))[:, :-1] > EDGE
    return across | down


def widened(mask: np.ndarray) -> np.ndarray:
    """By one pixel to all eight sides."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    return np.any([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)


def shared_edges(gazebo: np.ndarray, ours: np.ndarray) -> float:
    """The part of Gazebo's edges that ours have within 1 px."""
    theirs = edges(gazebo)
    assert theirs.sum() > 500
    return float((theirs & widened(edges(ours))).sum() / theirs.sum())


def picture(simulation: Simulation, topic: str) -> np.ndarray:
    model, link, sensor = next(one for one in simulation.world.sensors() if one[2].topic == topic)
    with Cameras(simulation.model, simulation.world.background) as cameras:
        rgb = cameras.take(simulation.data, model.name, link.name, sensor).rgb
    assert rgb is not None
    return rgb


def test_lidar_camera_and_drive_in_the_warehouse_agree(tmp_path: Path) -> None:
    world = ROOT / "sim_worlds" / "warehouse.sdf"
    orders = {
        "world": "warehouse",
        "camera": "base/base_link/camera",
        "lidar": "base/base_link/lidar",
        "drive": DRIVE,
    }
    found = run_gazebo(world, orders, tmp_path)
    simulation = simulated("warehouse")

    model, link, sensor = next(one for one in simulation.world.sensors() if one[2].topic == "scan")
    assert isinstance(sensor.spec, LidarSpec)
    assert found["angles"] == pytest.approx([sensor.spec.min_angle, sensor.spec.max_angle])
    ours = scan(simulation.model, simulation.data, model, link, sensor)
    both = np.isfinite(ours) & np.isfinite(found["ranges"])
    apart = np.abs(ours[both] - found["ranges"][both])
    shared = shared_edges(found["image"], picture(simulation, "camera/image"))

    name, linear, angular, lasting_s = DRIVE
    before = simulation.model_pose(name)
    simulation.drive(name, linear, angular)
    simulation.advance(round(lasting_s * S))
    moved = np.linalg.inv(before) @ simulation.model_pose(name)
    rows = found["pose/base"]  # since the order was given
    began = rows[0, 0]
    first, last = (rows[np.argmin(np.abs(rows[:, 0] - when))] for when in (began, began + lasting_s))
    assert abs(last[0] - began - lasting_s) < 0.005
    distance = math.hypot(*(last[1:3] - first[1:3] - moved[:2, 3]))
    turned = abs(math.remainder(last[4] - first[4] - yaw_of(moved), math.tau))
    figures = {
        "beams": int(both.sum()),
        "lidar_median_mm": 1e3 * float(np.median(apart)),
        "lidar_p95_mm": 1e3 * float(np.quantile(apart, 0.95)),
        "edges_shared": shared,
        "drive_apart_mm": 1e3 * distance,
        "drive_apart_rad": turned,
    }
    print(figures)  # noqa: T201 - shown by -s, and by a failure
    assert both.sum() > 300
    assert figures["lidar_median_mm"] < 1.0
    assert figures["edges_shared"] >= 0.8
    assert figures["drive_apart_mm"] < 10.0
    assert figures["drive_apart_rad"] < 0.01


def test_the_street_looks_the_same(tmp_path: Path) -> None:
    orders = {"world": "street", "camera": "car/car_link/front_camera", "lidar": "", "drive": None}
    found = run_gazebo(ROOT / "sim_worlds" / "street.sdf", orders, tmp_path)
    shared = shared_edges(found["image"], picture(simulated("street"), "front_camera/image"))
    print({"edges_shared": shared})  # noqa: T201
    assert shared >= 0.8


def test_the_things_on_the_table_lie_where_they_lie_in_gazebo(tmp_path: Path) -> None:
    orders = {"world": "tabletop", "camera": "", "lidar": "", "drive": None}
    found = run_gazebo(ROOT / "sim_worlds" / "tabletop.sdf", orders, tmp_path)
    simulation = simulated("tabletop")
    things = simulation.world.scene.models if simulation.world.scene else ()
    assert len(things) == 5
    for name in things:
        assert found[f"pose/{name}"][-1, 1:4] == pytest.approx(simulation.model_pose(name)[:3, 3], abs=2e-3), name
