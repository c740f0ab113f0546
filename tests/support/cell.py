"""A robot cell made of paper: it answers as services, cameras and an arm would, and does at once what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image, JointState
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from skyfog_interfaces.msg import Segment as SegmentMessage
from skyfog_interfaces.srv import PlanMotion, Segment

ARM = [f"panda_joint{index}" for index in range(1, 8)]
FINGERS = ["panda_finger_joint1", "panda_finger_joint2"]
HEIGHT, WIDTH, FOCAL = 120, 160, 200.0
CAMERA_Z, TOP_Z, SIDE = 0.6, 0.04, 0.04
CUBE = (0.5, 0.0)
PERIOD_S = 0.02


@dataclass
class Cell:
    """One cube below a camera that looks straight down; `fails` names tool motions that cannot be planned."""

    node: Node
    fails: set[str] = field(default_factory=set)
    on_table: bool = True
    held: bool = False
    plans: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._now_ns = 0
        self._positions = dict.fromkeys([*ARM, *FINGERS], 0.0)
        node = self.node
        self._joints = node.create_publisher(JointState, "/joint_states", 10)
        self._image = node.create_publisher(Image, "/wrist_camera/image", 10)
        self._depth = node.create_publisher(Image, "/wrist_camera/depth_image", 10)
        self._info = node.create_publisher(CameraInfo, "/wrist_camera/camera_info", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._tf = node.create_publisher(TFMessage, "/tf_static", latched)
        self._tf.publish(TFMessage(transforms=[_looking_down()]))
        node.create_subscription(JointTrajectory, "/panda/joint_trajectory", self._follow, 10)
        node.create_service(PlanMotion, "/plan_motion", self._plan)
        node.create_service(Segment, "/segment", self._segment)
        node.create_timer(PERIOD_S, self._tick)

    def _tick(self) -> None:
        self._now_ns += round(PERIOD_S * 1e9)
        stamp = Time(nanoseconds=self._now_ns).to_msg()
        names = list(self._positions)
        joints = JointState(name=names, position=list(self._positions.values()), velocity=[0.0] * len(names))
        depth = np.full((HEIGHT, WIDTH), CAMERA_Z, np.float32)
        depth[self._cube()] = CAMERA_Z - TOP_Z
        image = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH, data=bytes(3 * WIDTH * HEIGHT))
        metres = Image(height=HEIGHT, width=WIDTH, encoding="32FC1", step=4 * WIDTH, data=depth.tobytes())
        info = CameraInfo(height=HEIGHT, width=WIDTH)
        info.k = [FOCAL, 0.0, WIDTH / 2, 0.0, FOCAL, HEIGHT / 2, 0.0, 0.0, 1.0]
        for message, publisher in (
            (joints, self._joints),
            (info, self._info),
            (image, self._image),
            (metres, self._depth),
        ):
            message.header.stamp = stamp
            message.header.frame_id = "camera"
            publisher.publish(message)

    def _cube(self) -> np.ndarray:
        """[H, W]: the pixels of the cube's top, none where it is not on the table."""
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        half = SIDE / 2 * FOCAL / (CAMERA_Z - TOP_Z)
        inside = (abs(rows - HEIGHT / 2) <= half) & (abs(columns - WIDTH / 2) <= half)
        return inside & self.on_table

    def _follow(self, trajectory: JointTrajectory) -> None:
        end = dict(zip(trajectory.joint_names, trajectory.points[-1].positions, strict=True))
        if FINGERS[0] in end:
            closing = end[FINGERS[0]] == 0.0
            if closing and self.on_table:
                self.held, self.on_table = True, False
                end = dict.fromkeys(FINGERS, SIDE / 2)
            elif not closing:
                self.held = False
        self._positions.update(end)

    def _plan(self, request: Any, response: Any) -> Any:
        self.plans.append(request)
        kind = "straight" if request.cartesian else "free"
        if kind in self.fails:
            response.status.code, response.status.message = 5, "no way there"
            return response
        goal = list(request.goal_joints.position) or [self._positions[name] + 0.01 for name in ARM]
        point = JointTrajectoryPoint(positions=goal)
        point.time_from_start.nanosec = 1_000_000
        response.trajectory = JointTrajectory(joint_names=ARM, points=[point])
        return response

    def _segment(self, request: Any, response: Any) -> Any:
        mask = self._cube().astype(np.uint8)
        response.mask = Image(height=HEIGHT, width=WIDTH, encoding="mono8", step=WIDTH, data=mask.tobytes())
        if mask.any():
            response.segments = [SegmentMessage(class_id="1", class_name="cube")]
        return response


def _looking_down() -> TransformStamped:
    """The camera above the cube; its z axis points down, its x axis along the base's."""
    made = TransformStamped(child_frame_id="camera")
    made.header.frame_id = "panda_link0"
    at, turn = made.transform.translation, made.transform.rotation
    at.x, at.y, at.z = *CUBE, CAMERA_Z
    turn.x, turn.w = 1.0, 0.0
    return made
