"""The topics of a world, as they are called in ROS and in Gazebo."""

from __future__ import annotations

from dataclasses import dataclass

from skyfog_world.model import CameraSpec, Model, Sensor, World


def camera_topics(sensor: Sensor) -> tuple[str, str, str]:
    """Of colour, depth and camera info, as gz-sim names them; empty for what the camera does not give.

    An rgbd_camera's topic is a prefix; any other camera's is that of the image, with the info beside it.
    """
    spec = sensor.spec
    assert isinstance(spec, CameraSpec)
    if spec.colour and spec.depth:
        return f"{sensor.topic}/image", f"{sensor.topic}/depth_image", f"{sensor.topic}/camera_info"
    above = sensor.topic.rpartition("/")[0]
    info = f"{above}/camera_info" if above else "camera_info"
    return (sensor.topic, "", info) if spec.colour else ("", sensor.topic, info)


@dataclass(frozen=True, slots=True)
class Bridged:
    """One topic as ros_gz_bridge's configuration has it; of one name on both sides."""

    topic: str
    ros_type: str
    gz_type: str
    to_ros: bool = True


def bridged_topics(world: World) -> list[Bridged]:
    """What ros_gz_bridge carries when gz-sim runs the world: the topics that the embedded simulator has by itself."""
    found = [Bridged("/clock", "rosgraph_msgs/msg/Clock", "gz.msgs.Clock")]
    for model in world.models.values():
        found += _of_model(model)
    for _, _, sensor in world.sensors():
        if not isinstance(sensor.spec, CameraSpec):
            found.append(Bridged(f"/{sensor.topic}", "sensor_msgs/msg/LaserScan", "gz.msgs.LaserScan"))
            continue
        colour, depth, info = camera_topics(sensor)
        images = [topic for topic in (colour, depth) if topic]
        found += [Bridged(f"/{topic}", "sensor_msgs/msg/Image", "gz.msgs.Image") for topic in images]
        found.append(Bridged(f"/{info}", "sensor_msgs/msg/CameraInfo", "gz.msgs.CameraInfo"))
    return list(dict.fromkeys(found))


def _of_model(model: Model) -> list[Bridged]:
    found: list[Bridged] = []
    if model.moves_itself:
        found.append(Bridged("/joint_states", "sensor_msgs/msg/JointState", "gz.msgs.Model"))
        found.append(Bridged("/tf", "tf2_msgs/msg/TFMessage", "gz.msgs.Pose_V"))
    if model.drive is not None:
        found.append(Bridged(f"/{model.drive.topic}", "geometry_msgs/msg/Twist", "gz.msgs.Twist", to_ros=False))
        found.append(Bridged(f"/{model.drive.odom_topic}", "nav_msgs/msg/Odometry", "gz.msgs.Odometry"))
    if model.trajectories is not None:
        kind = "trajectory_msgs/msg/JointTrajectory"
        found.append(Bridged(f"/{model.trajectories.topic}", kind, "gz.msgs.JointTrajectory", to_ros=False))
    numbers = ("std_msgs/msg/Float64", "gz.msgs.Double")
    found += [Bridged(f"/{control.topic}", *numbers, to_ros=False) for control in model.positions]
    return found
