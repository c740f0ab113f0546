"""One service of a car: its camera to the car's own model and, as planned, to the cloud."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.uplink import CarClientConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_uplink",
        "car_client",
        CarClientConfig,
        arguments=("table", "service", "image", "on_car", "publish"),
        files=("car_client",),
        again=True,
    )
