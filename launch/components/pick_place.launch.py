"""Scan, pick and place, as an action."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.picking import PickPlaceConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_planning",
        "pick_place",
        PickPlaceConfig,
        arguments=("segment_service", "plan_service"),
        files=("pick_place",),
    )
