"""A replica's end, with the service of its role inside its process."""

from launch import LaunchDescription

from skyfog_bringup.launching import component
from skyfog_core.config.router import ReplicaProxyConfig


def generate_launch_description() -> LaunchDescription:
    return component(
        "skyfog_router",
        "replica_proxy",
        ReplicaProxyConfig,
        arguments=(
            "fleet",
            "zone",
            "replica",
            "service",
            "type",
            "target",
            "embedded",
            "added_latency_ms",
            "local",
            "robot",
            "price_per_hour",
            "zenoh.mode",
            "zenoh.connect",
            "zenoh.listen",
            "zenoh.tls.ca",
            "zenoh.tls.certificate",
            "zenoh.tls.key",
            "load_report_ms",
            "warm_up",
            "metrics_listen",
            "trace",
        ),
        files=("replica_proxy", "detect", "segment", "generate"),
        roles=True,
    )
