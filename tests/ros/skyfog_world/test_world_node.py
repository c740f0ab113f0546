"""The world as other nodes see it: its topics, its orders, its service."""

from __future__ import annotations

import importlib.util
import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState, LaserScan
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from skyfog_interfaces.msg import ModelStates, Status
from skyfog_interfaces.srv import ResetWorld
from support.processes import Process, Processes, wait_until
from support.ros import caller, free_domain, ros_node

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mujoco") is None, reason="mujoco is not installed: ./ws extra world"
)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Heard:
    """The newest message of each topic, and how many came."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._newest: dict[str, Any] = {}

    def on(self, topic: str, kind: Any, qos: Any = 10) -> None:
        def keep(message: Any) -> None:
            with self._lock:
                self._newest[topic] = message

        self._node.create_subscription(kind, topic, keep, qos)

    def next(self, topic: str) -> Any:
        """The next message that comes."""
        with self._lock:
            self._newest.pop(topic, None)
        return self.last(topic)

    def last(self, topic: str) -> Any:
        wait_until(f"a message on {topic}", lambda: topic in self._newest)
        with self._lock:
            return self._newest[topic]


def start(processes: Processes, folder: Path, domain: int, **parameters: Any) -> Process:
    path = folder / "world.yaml"
    path.write_text(yaml.safe_dump({"world": {"ros__parameters": parameters}}))
    command = ("-m", "skyfog_world.nodes.world", "--ros-args", "--params-file", str(path))
    return processes.python("world", *command, env={"ROS_DOMAIN_ID": str(domain)})


@pytest.fixture
def domain() -> int:
    return free_domain()


@pytest.fixture
def tabletop(tmp_path: Path, domain: int) -> Iterator[Process]:
    with Processes(tmp_path) as processes:
        process = start(processes, tmp_path, domain, world="tabletop", real_time_factor=5.0)
        process.wait_for("world_ready")
        yield process


def seconds(stamp: Any) -> float:
    return stamp.sec + stamp.nanosec * 1e-9


def chain_to_world(heard: Heard, frame: str) -> list[str]:
    """The frames from this one on, each with the one that it is told in."""
    fixed = {edge.child_frame_id: edge.header.frame_id for edge in heard.last("/tf_static").transforms}
    moving = {edge.child_frame_id: edge.header.frame_id for edge in heard.last("/tf").transforms}
    chain = [frame]
    while chain[-1] != "world":
        chain.append({**fixed, **moving}[chain[-1]])
    return chain


def test_the_tabletop_is_seen_moved_and_reset(tabletop: Process, domain: int) -> None:
    with ros_node(domain) as node:
        heard = Heard(node)
        clock: list[float] = []  # all of it: soon after a reset it is as late as before
        node.create_subscription(Clock, "/clock", lambda told: clock.append(seconds(told.clock)), 1_000)
        heard.on("/joint_states", JointState)
        heard.on("/tf", TFMessage)
        heard.on("/tf_static", TFMessage, LATCHED)
        heard.on("/world/model_states", ModelStates)
        for kind, topic in ((Image, "image"), (Image, "depth_image"), (CameraInfo, "camera_info")):
            heard.on(f"/wrist_camera/{topic}", kind)
        colour, depth = heard.last("/wrist_camera/image"), heard.last("/wrist_camera/depth_image")
        assert (colour.width, colour.height, colour.encoding, colour.step) == (320, 240, "rgb8", 960)
        assert (depth.width, depth.height, depth.encoding, depth.step) == (320, 240, "32FC1", 1280)
        assert len(colour.data) == 230_400
        assert np.frombuffer(depth.data, np.float32).min() > 0.3  # from the ready pose down to the table
        info = heard.last("/wrist_camera/camera_info")
        assert info.header.frame_id == colour.header.frame_id == "wrist_camera_optical_frame"
        assert info.k[0] == pytest.approx(160 / np.tan(0.6))
        chain = chain_to_world(heard, "wrist_camera_optical_frame")
        assert chain[1] == "panda_hand"
        assert chain[-2] == "panda_link0"

        orders = node.create_publisher(JointTrajectory, "/panda/joint_trajectory", 10)
        wait_until("the world listens", lambda: orders.get_subscription_count() > 0)
        point = JointTrajectoryPoint(positions=[0.5, 0.0], time_from_start=Duration(sec=1))
        orders.publish(JointTrajectory(joint_names=["panda_joint1", "panda_finger_joint1"], points=[point]))

        def arrived() -> bool:
            state = heard.next("/joint_states")
            at = dict(zip(state.name, state.position, strict=True))
            return abs(at["panda_joint1"] - 0.5) < 0.005 and abs(at["panda_finger_joint2"]) < 0.001

        wait_until("the arm is there", arrived)
        refused = JointTrajectory(joint_names=["panda_joint9"], points=[JointTrajectoryPoint(positions=[0.0])])
        orders.publish(refused)
        tabletop.wait_for("there is no joint 'panda_joint9'")

        before = heard.next("/world/model_states")
        reset = caller(node, ResetWorld, "/world/reset")
        assert reset.call(ResetWorld.Request(seed=7)).status.code == Status.OK
        wait_until("time begins anew", lambda: any(now < then for then, now in itertools.pairwise([*clock])))
        where = before.names.index("cube_red_0")

        def moved() -> bool:
            after = heard.next("/world/model_states")
            assert before.names == after.names
            return abs(before.poses[where].position.x - after.poses[where].position.x) > 1e-3

        wait_until("the cube lies elsewhere", moved)
    tabletop.signal(signal.SIGTERM)
    assert tabletop.exit_status() == 0


def test_the_warehouse_is_scanned_and_driven_through(tmp_path: Path, domain: int) -> None:
    with Processes(tmp_path) as processes, ros_node(domain) as node:
        world = start(processes, tmp_path, domain, world="warehouse", real_time_factor=2.0)
        world.wait_for("world_ready")
        heard = Heard(node)
        heard.on("/scan", LaserScan)
        heard.on("/odom", Odometry)
        heard.on("/camera/image", Image)
        heard.on("/depth/depth_image", Image)
        scan = heard.last("/scan")
        assert len(scan.ranges) == 360
        assert np.isfinite(np.array(scan.ranges)).any()
        assert heard.last("/camera/image").encoding == "rgb8"
        assert heard.last("/depth/depth_image").encoding == "32FC1"
        orders = node.create_publisher(Twist, "/cmd_vel", 10)
        wait_until("the world listens", lambda: orders.get_subscription_count() > 0)
        twist = Twist()
        twist.linear.x = 0.4
        orders.publish(twist)
        wait_until("the base drives", lambda: heard.next("/odom").pose.pose.position.x > 0.2)
        reset = caller(node, ResetWorld, "/world/reset")
        answer = reset.call(ResetWorld.Request(seed=7))
        assert answer.status.code == Status.INVALID_REQUEST
        assert "has no <skyfog:scene>" in answer.status.message
        world.signal(signal.SIGTERM)
        assert world.exit_status() == 0


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"world": "werehouse"}, "did you mean 'warehouse'?"),
        ({"world": "/no/such/world.sdf"}, "/no/such/world.sdf: there is no such file"),
        ({"world": "tabletop", "real_time_factor": -1.0}, "real_time_factor"),
    ],
)
def test_a_wrong_parameter_is_refused_with_file_and_key(
    tmp_path: Path, domain: int, parameters: dict[str, Any], part: str
) -> None:
    with Processes(tmp_path) as processes:
        world = start(processes, tmp_path, domain, **parameters)
        assert world.exit_status() == 2
        assert part in world.output
        assert "world.yaml" in world.output
