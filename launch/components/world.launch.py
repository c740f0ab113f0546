"""The embedded simulator."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.world import WorldConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_world",
        "world",
        WorldConfig,
        arguments=("world", "real_time_factor", "scene_seed", "shadows"),
        files=("world",),
    )
