"""sim.launch.py, as a user runs it, and what it would start for gz-sim."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction
from sensor_msgs.msg import Image

from skyfog_bringup.launching import share
from support.processes import Process, wait_until
from support.ros import free_domain, ros_node

END_LIMIT_S = 60.0


@pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="mujoco is not installed: ./ws extra world")
def test_the_warehouse_is_launched_gives_images_and_ends_on_an_interrupt(tmp_path: Path) -> None:
    domain = free_domain()
    words = ("ros2", "launch", "skyfog_bringup", "sim.launch.py", "world:=warehouse", "real_time_factor:=2.0")
    launch = Process("launch", words, tmp_path / "launch.log", {"ROS_DOMAIN_ID": str(domain)})
    try:
        launch.wait_for("world_ready")
        with ros_node(domain) as node:
            seen: list[Image] = []
            node.create_subscription(Image, "/camera/image", seen.append, 10)
            wait_until("three images", lambda: len(seen) >= 3)
        assert (seen[0].width, seen[0].height) == (320, 240)
        launch.signal(signal.SIGINT)
        assert launch.exit_status(END_LIMIT_S) == 0
    finally:
        launch.end()


def test_a_world_that_is_not_there_is_refused_with_those_there_are() -> None:
    words = ("ros2", "launch", "skyfog_bringup", "sim.launch.py", "world:=werehouse")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "warehouse" in done.stderr + done.stdout


def described(file: Path) -> LaunchDescription:
    spec = importlib.util.spec_from_file_location("launch_file", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: LaunchDescription = module.generate_launch_description()
    return found


@pytest.mark.parametrize("world", ["warehouse", "tabletop", "street"])
def test_gz_sim_would_get_the_world_and_the_bridge_its_configuration(world: str) -> None:
    """Not run here: only what would be started is looked at, with ros_gz as a name."""
    description = described(share() / "launch" / "components" / "gazebo.launch.py")
    (start,) = (entity for entity in description.entities if isinstance(entity, OpaqueFunction))
    context = LaunchContext()
    context.launch_configurations["world"] = world
    entities: Any = start.execute(context)
    variable, included, bridge = entities
    assert Path(variable.value[0].text).is_dir()
    arguments = dict(included.launch_arguments)
    path = Path(arguments["gz_args"].removeprefix("-r "))
    assert path.name == f"{world}.sdf"
    assert path.is_file()
    assert bridge.node_package == "ros_gz_bridge"
    assert (share() / "config" / "base" / f"gz_bridge_{world}.yaml").is_file()
