"""How a proxy is watched from outside: topics, diagnostics, Prometheus. One object a proxy, and nothing flows back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rclpy.node import Node

from skyfog_core.config.router import RobotProxyConfig
from skyfog_core.nodes.parameters import blame
from skyfog_core.trace import Trace
from skyfog_router.metrics import RouterMetrics
from skyfog_router.metrics_server import MetricsServer
from skyfog_router.nodes.state import StatePublisher
from skyfog_router.policy.snapshot import ServiceSnapshot
from skyfog_router.report import Origin


class RouterWatch:
    """Of a robot_proxy."""

    def __init__(self, config: RobotProxyConfig, names: Mapping[str, str]) -> None:
        """`names`: the ROS name of each entry of `services`. Raises ConfigError for a `metrics_listen` that cannot be."""
        self._config = config
        self._types = {names[key]: entry.type for key, entry in config.services.items()}
        self._metrics = self._server = None
        if config.metrics_listen:
            self._metrics = RouterMetrics(self._types)
            with blame("metrics_listen"):
                self._server = MetricsServer(self._metrics.registry, config.metrics_listen)

    def noting(self, trace: Trace) -> Trace:
        """The trace for the driver: `trace`, with what Prometheus wants counted on the way."""
        return self._metrics.noting(trace) if self._metrics else trace

    def begin(self, node: Node, robot: str, snapshots: Callable[[], Mapping[str, ServiceSnapshot]]) -> None:
        """Publish and serve what `snapshots` tells, until the node ends."""
        StatePublisher(node, Origin(robot, self._config.fleet), self._types, snapshots)
        if self._metrics:
            self._metrics.watch(snapshots)

    def close(self) -> None:
        """Free the port."""
        if self._server:
            self._server.close()
