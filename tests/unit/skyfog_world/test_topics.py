"""Topics and frames are those that ROS users of Gazebo know."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from unit.skyfog_world.files import WORLDS, joint, link, loaded, model

from skyfog_core.errors import ConfigError
from skyfog_world.model import World
from skyfog_world.sdf import load
from skyfog_world.topics import bridged_topics
from skyfog_world.tree import FixedEdge, MovingEdge, OdometryEdge, edges
from skyfog_world.worlds import find_world

CONFIG = WORLDS.parent / "config" / "base"


@pytest.mark.parametrize("name", ["tabletop", "warehouse", "street"])
def test_the_bridge_to_gz_sim_carries_exactly_the_topics_of_the_embedded_simulator(name: str) -> None:
    written = yaml.safe_load((CONFIG / f"gz_bridge_{name}.yaml").read_text())
    expected = {
        (one.topic, one.ros_type, one.gz_type, "GZ_TO_ROS" if one.to_ros else "ROS_TO_GZ")
        for one in bridged_topics(load(WORLDS / f"{name}.sdf"))
    }
    keys = ("ros_topic_name", "ros_type_name", "gz_type_name", "direction")
    assert {tuple(entry[key] for key in keys) for entry in written} == expected
    assert len(written) == len(expected)


def parents(world: World) -> dict[str, str]:
    found = {edge.child: edge.parent for edge in edges(world)}
    assert len(found) == len(edges(world)), "a frame with two parents"
    return found


def test_the_arm_hangs_on_the_world_and_its_camera_on_its_hand() -> None:
    world = load(WORLDS / "tabletop.sdf")
    above = parents(world)
    assert above["wrist_camera_optical_frame"] == "panda_hand"
    assert above["panda_hand"] == "panda_link7"
    assert above["panda_link0"] == "world"
    kinds = {edge.child: type(edge) for edge in edges(world)}
    assert kinds["panda_link3"] is MovingEdge
    assert kinds["panda_hand"] is kinds["panda_link0"] is FixedEdge
    assert not any("cube" in child for child in above)  # things are found by looking


def test_the_base_hangs_on_its_odometry() -> None:
    world = load(WORLDS / "warehouse.sdf")
    above = parents(world)
    assert above["base_link"] == "odom"
    assert {above["left_wheel"], above["lidar_frame"], above["camera_optical_frame"]} == {"base_link"}
    assert [type(edge) for edge in edges(world) if edge.child == "base_link"] == [OdometryEdge]


def test_links_of_one_name_in_two_robots_are_told_apart(tmp_path: Path) -> None:
    drive = '<plugin name="gz::sim::systems::JointPositionController" filename="f"><joint_name>j</joint_name></plugin>'
    arm = link("base") + link("tip") + joint("revolute", "base", "tip", "<axis/>") + drive
    fixed = joint("fixed", "world", "base", name="k")
    world = loaded(tmp_path, model(arm + fixed, "one") + model(arm + fixed, "two"))
    assert parents(world) == {
        "one/base": "world",
        "one/tip": "one/base",
        "two/base": "world",
        "two/tip": "two/base",
    }


def test_worlds_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert find_world("street", WORLDS) == WORLDS / "street.sdf"
    assert find_world(str(WORLDS / "street.sdf"), tmp_path) == WORLDS / "street.sdf"
    with pytest.raises(ConfigError, match=r"unknown world 'stret'; did you mean 'street'\? \(in .*: street, table"):
        find_world("stret", WORLDS)
    with pytest.raises(ConfigError, match="there is no such file"):
        find_world("./stret", WORLDS)
