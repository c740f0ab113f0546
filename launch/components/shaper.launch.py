"""A car's end of the uplink: sends what is planned, says how the link is."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.uplink import ShaperNodeConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_uplink",
        "shaper",
        ShaperNodeConfig,
        arguments=(
            "table",
            "fleet",
            "car",
            "transport",
            "zenoh.mode",
            "zenoh.connect",
            "zenoh.listen",
            "zenoh.tls.ca",
            "zenoh.tls.certificate",
            "zenoh.tls.key",
            "trace",
        ),
        files=("shaper",),
        again=True,
    )
