"""Our worlds run: the arm follows and lifts, the base drives its arc, what is thrown falls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from integration.skyfog_world.conftest import Make
from integration.skyfog_world.reach import ARM, READY, down_at, grip, joints_for, move

from skyfog_core.errors import ConfigError, InvalidRequest
from skyfog_core.units import S
from skyfog_world.control import Trajectory
from skyfog_world.frames import yaw_of
from skyfog_world.placing import scene_places


@pytest.mark.parametrize("world", ["tabletop", "warehouse", "street"])
def test_a_world_runs_for_a_second_and_its_things_stay_where_they_stand(world: str, simulate: Make) -> None:
    simulation = simulate(world)
    before = {name: simulation.model_pose(name) for name in simulation.world.models}
    simulation.advance(S)
    assert simulation.now_ns == S
    assert np.isfinite(simulation.data.qpos).all()
    moved_by_traffic = set(simulation.world.traffic.models) if simulation.world.traffic else set()
    for name, pose in before.items():
        if name not in moved_by_traffic:
            assert simulation.model_pose(name) == pytest.approx(pose, abs=2e-3), name


def test_things_of_the_scene_lie_where_the_file_and_the_seed_have_them(simulate: Make) -> None:
    simulation = simulate("tabletop")
    for name in ("cube_red_0", "cylinder_yellow_0"):
        assert simulation.model_pose(name) == pytest.approx(simulation.world.models[name].pose, abs=1e-3)
    simulation.reset(5)
    for name, place in scene_places(simulation.world, 5).items():
        pose = simulation.model_pose(name)
        assert pose[:2, 3] == pytest.approx((place.x, place.y), abs=2e-3)
        assert math.remainder(yaw_of(pose) - place.yaw, math.tau) == pytest.approx(0, abs=0.02)
    simulation.reset(5)
    assert simulation.now_ns == 0


@pytest.mark.parametrize(("seed", "name"), [(0, "cube_red_0"), (3, "cylinder_green_0"), (4, "box_blue_0")])
def test_the_gripper_lifts_a_thing_by_friction_and_drops_it_in_a_bin(seed: int, name: str, simulate: Make) -> None:
    simulation = simulate("tabletop", seed)
    pose = simulation.model_pose(name)
    x, y, z = pose[:3, 3]
    quarter = math.pi if name.startswith("box") else math.pi / 2
    yaw = math.remainder(yaw_of(pose), quarter)
    above = joints_for(simulation, down_at(x, y, z + 0.12, yaw))
    grip(simulation, 0.08)
    move(simulation, above, 1.5)
    move(simulation, joints_for(simulation, down_at(x, y, z, yaw), above), 1.0)
    grip(simulation, 0.0)
    move(simulation, above, 1.0)
    assert simulation.model_pose(name)[2, 3] == pytest.approx(z + 0.12, abs=0.01)
    held_mm = 1e3 * sum(state.position for state in simulation.joint_states("panda") if "finger" in state.name)
    assert 30 < held_mm < 50
    side = math.copysign(0.45, y)
    move(simulation, joints_for(simulation, down_at(0.4, side, 0.57), above), 1.5)
    grip(simulation, 0.08)
    simulation.advance(S)
    end = simulation.model_pose(name)[:3, 3]
    assert abs(end[0] - 0.4) < 0.11
    assert abs(end[1] - side) < 0.11
    assert end[2] < 0.46


def test_an_open_gripper_lifts_nothing(simulate: Make) -> None:
    simulation = simulate("tabletop")
    x, y, z = simulation.model_pose("cube_red_0")[:3, 3]
    above = joints_for(simulation, down_at(x, y, z + 0.12))
    for joints in (above, joints_for(simulation, down_at(x, y, z), above), above):
        move(simulation, joints, 1.0)
    assert simulation.model_pose("cube_red_0")[2, 3] == pytest.approx(z, abs=2e-3)


def test_the_arm_follows_a_fast_trajectory_within_half_a_degree(simulate: Make) -> None:
    simulation = simulate("tabletop")
    there = READY + np.array([0.8, 0.3, -0.5, 0.4, 0.6, -0.5, 0.7])
    way = Trajectory(ARM, (S,), there[None], np.zeros((1, 7)))
    simulation.follow("panda", way)
    worst = 0.0
    for step in range(1, 126):
        simulation.advance(10_000_000)
        part = min(1.0, step / 100)
        expected = READY + (there - READY) * (3 * part**2 - 2 * part**3)
        at = [state.position for state in simulation.joint_states("panda") if state.name in ARM]
        worst = max(worst, float(np.abs(np.array(at) - expected).max()))
    assert math.degrees(worst) < 0.5


def test_the_base_drives_the_arc_that_it_is_told(simulate: Make) -> None:
    simulation = simulate("warehouse")
    simulation.drive("base", 0.4, 0.2)
    simulation.advance(S)  # until its weight is at that speed
    began, counted = simulation.model_pose("base"), simulation.odometry("base")
    simulation.advance(6 * S)
    moved = np.linalg.inv(began) @ simulation.model_pose("base")
    radius, turned = 0.4 / 0.2, 0.2 * 6
    assert moved[:2, 3] == pytest.approx((radius * math.sin(turned), radius * (1 - math.cos(turned))), abs=0.01)
    assert yaw_of(moved) == pytest.approx(turned, abs=0.01)
    odometry = simulation.odometry("base")
    assert math.hypot(odometry.x - counted.x, odometry.y - counted.y) == pytest.approx(
        math.hypot(moved[0, 3], moved[1, 3]), abs=0.01
    )
    assert odometry.yaw - counted.yaw == pytest.approx(turned, abs=0.01)


def test_traffic_moves_along_its_record(simulate: Make) -> None:
    simulation = simulate("street")
    names = simulation.world.traffic.models if simulation.world.traffic else ()
    simulation.advance(20 * S)
    before = {name: simulation.model_pose(name) for name in names}
    shown = [name for name in names if before[name][2, 3] > -1]
    assert len(shown) > 3
    simulation.advance(S)
    steps = [float(np.linalg.norm(simulation.model_pose(name)[:2, 3] - before[name][:2, 3])) for name in shown]
    assert max(steps) > 3
    assert max(step for step in steps if step < 50) < 14


def test_a_ball_falls_as_newton_says(simulate: Make) -> None:
    ball = '<collision name="c"><geometry><sphere><radius>0.1</radius></sphere></geometry></collision>'
    simulation = simulate(f'<model name="m"><pose>0 0 20 0 0 0</pose><link name="l">{ball}</link></model>')
    simulation.advance(S // 2)
    seconds = 0.5 + 0.5  # that of settling too
    assert simulation.model_pose("m")[2, 3] == pytest.approx(20 - 9.8 / 2 * seconds**2, abs=0.02)


def test_what_cannot_be_done_is_refused(simulate: Make) -> None:
    simulation = simulate("tabletop")
    with pytest.raises(InvalidRequest, match="model 'panda' has no diff drive"):
        simulation.drive("panda", 1.0, 0.0)
    with pytest.raises(InvalidRequest, match="model 'table' has no joints that are driven"):
        simulation.follow("table", Trajectory(("a",), (1,), np.zeros((1, 1))))
    warehouse = simulate("warehouse")
    with pytest.raises(InvalidRequest, match="not finite"):
        warehouse.drive("base", math.nan, 0.0)
    with pytest.raises(ConfigError, match="has no <skyfog:scene>"):
        warehouse.reset(1)
    lopsided = "<inertial><mass>1</mass><inertia><ixx>1</ixx><iyy>1</iyy><izz>9</izz></inertia></inertial>"
    with pytest.raises(ConfigError, match=r"w\.sdf: MuJoCo refuses it: .*inertia"):
        simulate(f'<model name="m"><link name="l">{lopsided}</link></model>')
