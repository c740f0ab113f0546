"""The model on the car, as the service <namespace>/detect: what answers whatever the uplink does."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.perception import DetectConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_perception",
        "detect",
        DetectConfig,
        arguments=("model", "threads"),
        files=("on_car",),
        again=True,
    )
