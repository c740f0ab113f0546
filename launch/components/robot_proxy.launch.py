"""The robot's end: each configured service under its own name, answered by the fleet."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.router import RobotProxyConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_router",
        "robot_proxy",
        RobotProxyConfig,
        arguments=(
            "fleet",
            "robot",
            "zone",
            "zenoh.mode",
            "zenoh.connect",
            "zenoh.listen",
            "zenoh.tls.ca",
            "zenoh.tls.certificate",
            "zenoh.tls.key",
            "load_report_ms",
            "metrics_listen",
            "trace",
        ),
        files=("robot_proxy",),
    )
