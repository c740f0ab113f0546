"""The topics of a world, as they are called in ROS and in Gazebo."""

from __future__ import annotations

from skyfog_world.model import CameraSpec, Sensor


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
