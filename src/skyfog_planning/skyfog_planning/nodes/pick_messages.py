"""ROS messages of pick-and-place to plain values and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Pose as PoseMessage
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from shape_msgs.msg import SolidPrimitive
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from skyfog_core.config.picking import PickPlaceConfig
from skyfog_core.poses import Pose, from_quaternion, quaternion
from skyfog_core.units import S
from skyfog_interfaces.msg import CollisionObject
from skyfog_interfaces.srv import PlanMotion
from skyfog_planning.picking.grasp import GripperLimits, grip_height
from skyfog_planning.picking.locate import Located
from skyfog_planning.picking.sequence import Reach

DTYPES = {"mono8": np.uint8, "32FC1": np.float32}
PADDING_M = 0.005  # around what was seen, on each side


def three(values: Sequence[float]) -> tuple[float, float, float]:
    """A parameter of three numbers."""
    x, y, z = values
    return x, y, z


def latched() -> QoSProfile:
    """Of /tf_static: who comes late hears it too."""
    return QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def stamp_ns(header: Any) -> int:
    """A header's stamp in nanoseconds of ROS time."""
    return int(header.stamp.sec) * S + int(header.stamp.nanosec)


def to_matrix(message: Any) -> Pose:
    """geometry_msgs/Transform -> [4, 4]."""
    t, r = message.translation, message.rotation
    return from_quaternion((t.x, t.y, t.z), (r.w, r.x, r.y, r.z))


def pose(matrix: Pose) -> PoseMessage:
    """[4, 4] -> geometry_msgs/Pose."""
    made = PoseMessage()
    made.position.x, made.position.y, made.position.z = matrix[:3, 3].tolist()
    turned = made.orientation
    turned.w, turned.x, turned.y, turned.z = quaternion(matrix)
    return made


def pixels(image: Any) -> npt.NDArray[Any]:
    """A one-channel sensor_msgs/Image -> [H, W]. Raises KeyError for an encoding that is none of DTYPES."""
    kind = np.dtype(DTYPES[image.encoding])
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
    return rows[:, : image.width * kind.itemsize].copy().view(kind)


def joint_state(names: Sequence[str], positions: Sequence[float]) -> JointState:
    """Positions by name."""
    return JointState(name=list(names), position=[float(value) for value in positions])


def to_positions(names: Sequence[str], positions: Sequence[float], seconds: float) -> JointTrajectory:
    """A trajectory of one point."""
    point = JointTrajectoryPoint(positions=[float(value) for value in positions])
    point.time_from_start = Duration(seconds=seconds).to_msg()
    return JointTrajectory(joint_names=list(names), points=[point])


def plan_request(config: PickPlaceConfig, positions: Mapping[str, float]) -> PlanMotion.Request:
    """What every motion shares: the robot, where it is, how fast it may go, and what always stands around it."""
    request = PlanMotion.Request(
        robot=config.robot,
        start=joint_state(list(positions), list(positions.values())),
        time_budget_s=config.plan_budget_s,
        max_velocity_scaling=config.velocity_scaling,
        max_acceleration_scaling=config.velocity_scaling,
    )
    for name, one in config.obstacles.items():
        at = np.eye(4)
        at[:3, 3] = one.center
        request.objects.append(box(name, at, one.size))
    return request


def box(name: str, at: Pose, size: Sequence[float]) -> CollisionObject:
    """One box around its centre; `size` [3] in metres."""
    made = CollisionObject(id=name, pose=pose(at))
    made.primitives.append(SolidPrimitive(type=SolidPrimitive.BOX, dimensions=[float(side) for side in size]))
    made.primitive_poses.append(pose(np.eye(4)))
    return made


def box_of(name: str, located: Located) -> CollisionObject:
    """An object on the table as the planner sees it, with a margin for what the cameras did not see."""
    height = located.top - located.bottom
    half = located.yaw / 2
    middle = (located.x, located.y, located.bottom + height / 2)
    at = from_quaternion(middle, (float(np.cos(half)), 0.0, 0.0, float(np.sin(half))))
    return box(name, at, (located.length + 2 * PADDING_M, located.width + 2 * PADDING_M, height + PADDING_M))


def add_scene(request: PlanMotion.Request, step: Reach, objects: Sequence[Located], gripper: GripperLimits) -> None:
    """The other objects stand in the way; the one at hand may be touched, or is carried.

    Straight up from the table the held one is left out: it still touches what it stands on.
    """
    for index, one in enumerate(objects):
        name = f"{one.class_name}_{index}"
        if one is step.held:
            if not step.straight:
                request.attached.append(carried(name, one, gripper))
        elif one is step.touched:
            request.allowed_collisions.append(name)
            request.objects.append(box_of(name, one))
        else:
            request.objects.append(box_of(name, one))


def carried(name: str, located: Located, gripper: GripperLimits) -> CollisionObject:
    """A held object in the tool's frame, whose z points down: as long as wide, for either turn of the hand."""
    height = located.top - located.bottom
    side = max(located.length, located.width)
    at = np.eye(4)
    at[2, 3] = grip_height(located, gripper) - (located.bottom + height / 2)
    return box(name, at, (side, side, height))
