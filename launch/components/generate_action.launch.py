"""Text from the fleet's language models, as an action."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.inference import GenerateActionConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_inference", "generate_action", GenerateActionConfig, arguments=("service",), files=("generate_action",)
    )
