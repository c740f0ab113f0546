"""How a proxy is watched from outside: topics, diagnostics, Prometheus. One object a proxy, and nothing flows back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rclpy.node import Node

from skyfog_core.config.router import ReplicaProxyConfig, RobotProxyConfig
from skyfog_core.errors import Overloaded
from skyfog_core.nodes.parameters import blame
from skyfog_core.trace import Trace
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router import diagnosis
from skyfog_router.metrics import ReplicaMetrics, RouterMetrics
from skyfog_router.metrics_server import MetricsServer
from skyfog_router.nodes.diagnostics import DiagnosticsPublisher
from skyfog_router.nodes.state import PERIOD_S, StatePublisher
from skyfog_router.policy.snapshot import AdmissionSnapshot, ServiceSnapshot
from skyfog_router.replica import ReplicaDriver
from skyfog_router.report import Origin


class _Served:
    """Metrics behind `metrics_listen`, where that is set."""

    def __init__(self, listen: str, metrics: RouterMetrics | ReplicaMetrics) -> None:
        self._metrics = metrics
        self._server: MetricsServer | None = None
        if listen:
            with blame("metrics_listen"):
                self._server = MetricsServer(metrics.registry, listen)

    def noting(self, trace: Trace) -> Trace:
        """The trace for the driver: `trace`, with what Prometheus wants counted on the way."""
        return self._metrics.noting(trace) if self._server else trace

    def close(self) -> None:
        """Free the port."""
        if self._server:
            self._server.close()


class RouterWatch(_Served):
    """Of a robot_proxy."""

    def __init__(self, config: RobotProxyConfig, names: Mapping[str, str]) -> None:
        """`names`: the ROS name of each entry of `services`. Raises ConfigError where metrics_listen cannot be."""
        self._fleet = config.fleet
        self._types = {names[key]: entry.type for key, entry in config.services.items()}
        self._router_metrics = RouterMetrics(self._types)
        super().__init__(config.metrics_listen, self._router_metrics)

    def begin(self, node: Node, robot: str, snapshots: Callable[[], Mapping[str, ServiceSnapshot]]) -> None:
        """Publish and serve what `snapshots` tells, until the node ends."""
        StatePublisher(node, Origin(robot, self._fleet), self._types, snapshots)
        self._router_metrics.watch(snapshots)


class ReplicaWatch(_Served):
    """Of a replica_proxy."""

    def __init__(self, config: ReplicaProxyConfig) -> None:
        """Raises ConfigError where metrics_listen cannot be."""
        self._service = config.service
        self._replica_metrics = ReplicaMetrics(config.service)
        self._before: AdmissionSnapshot | None = None
        super().__init__(config.metrics_listen, self._replica_metrics)

    def begin(self, node: Node, who: ReplicaKey, driver: ReplicaDriver, absent: Callable[[], str]) -> None:
        """Publish and serve what `driver` tells, until the node ends. `absent`: why it is not announced, or ""."""
        diagnostics = DiagnosticsPublisher(node, hardware_id=str(who))

        def publish() -> None:
            try:
                now = driver.snapshot()
            except Overloaded:
                found = diagnosis.NO_ANSWER
            else:
                found = diagnosis.of_replica(now, self._before, absent(), driver.links())
                self._before = now
            diagnostics.publish({f"{self._service} {who}": found})

        node.create_timer(PERIOD_S, publish)
        self._replica_metrics.watch(driver.snapshot)
