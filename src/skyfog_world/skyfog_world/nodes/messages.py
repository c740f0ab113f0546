"""Between ROS messages and what the pure half takes and gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose as PoseMessage
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, Image, LaserScan
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from skyfog_core.errors import InvalidRequest
from skyfog_core.poses import Pose, quaternion
from skyfog_core.units import S
from skyfog_world.control import Trajectory
from skyfog_world.model import CameraSpec, LidarSpec, Sensor


def stamp(now_ns: int) -> Time:
    """Simulated time."""
    return Time(sec=now_ns // S, nanosec=now_ns % S)


def header(frame_id: str, now_ns: int) -> Header:
    """In a frame, at a simulated time."""
    return Header(stamp=stamp(now_ns), frame_id=frame_id)


def to_trajectory(message: JointTrajectory) -> Trajectory:
    """Raises InvalidRequest that names the field. Begins when it arrives: a stamp in its header does not count."""
    joints = tuple(message.joint_names)
    points = message.points
    for index, point in enumerate(points):
        if len(point.positions) != len(joints):
            raise InvalidRequest(f"points[{index}]: {len(point.positions)} positions for {len(joints)} joints")
    with_velocity = [len(point.velocities) for point in points]
    if any(count not in (0, len(joints)) for count in with_velocity) or len(set(with_velocity)) > 1:
        raise InvalidRequest("points: velocities must be given for every joint of every point, or not at all")
    shape = (len(points), len(joints))
    velocities = None
    if with_velocity and with_velocity[0]:
        velocities = np.array([point.velocities for point in points], float).reshape(shape)
    return Trajectory(
        joints=joints,
        times_ns=tuple(point.time_from_start.sec * S + point.time_from_start.nanosec for point in points),
        positions=np.array([point.positions for point in points], float).reshape(shape),
        velocities=velocities,
    )


def pose_message(pose: Pose) -> PoseMessage:
    """Metres and a quaternion."""
    message = PoseMessage()
    message.position.x, message.position.y, message.position.z = (float(v) for v in pose[:3, 3])
    turned = message.orientation
    turned.w, turned.x, turned.y, turned.z = quaternion(pose)
    return message


def transform(parent: str, child: str, pose: Pose, now_ns: int) -> TransformStamped:
    """The frame `child` at `pose` in `parent`."""
    message = TransformStamped(header=header(parent, now_ns), child_frame_id=child)
    moved, turned = message.transform.translation, message.transform.rotation
    moved.x, moved.y, moved.z = (float(v) for v in pose[:3, 3])
    turned.w, turned.x, turned.y, turned.z = quaternion(pose)
    return message


def image(sensor: Sensor, pixels: Any, encoding: str, taken_ns: int) -> Image:
    """`pixels`: uint8 [H, W, 3] as rgb8, or float32 [H, W] metres as 32FC1."""
    height, width = pixels.shape[:2]
    step = width * pixels.dtype.itemsize * (3 if pixels.ndim == 3 else 1)
    message = Image(header=header(sensor.frame_id, taken_ns), height=height, width=width, encoding=encoding, step=step)
    message.data.frombytes(pixels.tobytes())
    return message


def camera_info(sensor: Sensor, taken_ns: int) -> CameraInfo:
    """A camera without distortion. As in Gazebo the middle of the image is at (W/2, H/2): pixel u's middle at u + ½."""
    spec = sensor.spec
    assert isinstance(spec, CameraSpec)
    focal, across, down = spec.focal_px, spec.width / 2, spec.height / 2
    return CameraInfo(
        header=header(sensor.frame_id, taken_ns),
        height=spec.height,
        width=spec.width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, across, 0.0, focal, down, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, across, 0.0, 0.0, focal, down, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def laser_scan(sensor: Sensor, ranges: Any, taken_ns: int) -> LaserScan:
    """`ranges`: float32 [samples]."""
    spec = sensor.spec
    assert isinstance(spec, LidarSpec)
    message = LaserScan(
        header=header(sensor.frame_id, taken_ns),
        angle_min=spec.min_angle,
        angle_max=spec.max_angle,
        angle_increment=(spec.max_angle - spec.min_angle) / (spec.samples - 1),
        scan_time=1.0 / sensor.rate_hz,
        range_min=spec.min_range,
        range_max=spec.max_range,
    )
    message.ranges.frombytes(ranges.tobytes())
    return message
