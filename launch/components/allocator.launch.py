"""Shares a car's uplink between its services."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.uplink import AllocatorNodeConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_uplink",
        "allocator",
        AllocatorNodeConfig,
        arguments=("table", "floor_warn_s"),
        files=("allocator",),
        again=True,
    )
