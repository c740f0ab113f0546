"""A camera that plays images and calls the detection service about each, as any ROS 2 client would."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.demo import CameraConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_bringup",
        "camera",
        CameraConfig,
        arguments=("rate_hz", "image", "service", "seed", "record"),
        files=("camera",),
    )
