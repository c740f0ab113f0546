"""How a proxy is watched from outside: topics, diagnostics, Prometheus. One object a proxy.

Nothing flows back, but one thing: a replica that shall drain is told so where it is asked whether it is ready.

    GET  /ready               200 while robots are told of this replica, else 503: {ready, draining, drained, running,
                              waiting, why}
    POST /drain?within_s=S    from the machine itself: drop the token now, finish what can be finished within S seconds,
                              hand back the rest; without S, finish all; 202 with the same object
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node

from skyfog_core.config.router import ReplicaProxyConfig, RobotProxyConfig
from skyfog_core.diagnosis import NO_ANSWER
from skyfog_core.errors import Overloaded
from skyfog_core.nodes.diagnostics import DiagnosticsPublisher
from skyfog_core.nodes.parameters import blame
from skyfog_core.trace import Trace
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router import diagnosis
from skyfog_router.metrics import ReplicaMetrics, RouterMetrics
from skyfog_router.metrics_server import MetricsServer, Route
from skyfog_router.nodes.state import PERIOD_S, StatePublisher
from skyfog_router.policy.snapshot import AdmissionSnapshot, ServiceSnapshot
from skyfog_router.replica import ReplicaDriver
from skyfog_router.report import Origin


class _Served:
    """Metrics behind `metrics_listen`, where that is set."""

    def __init__(
        self, listen: str, metrics: RouterMetrics | ReplicaMetrics, routes: Mapping[str, Route] | None = None
    ) -> None:
        self._metrics = metrics
        self._server: MetricsServer | None = None
        if listen:
            with blame("metrics_listen"):
                self._server = MetricsServer(metrics.registry, listen, routes)

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
        self._driver: ReplicaDriver | None = None
        self._absent: Callable[[], str] = lambda: "it starts"
        self._drain: Callable[[float | None], None] | None = None
        routes = {"/ready": Route("GET", self._on_ready), "/drain": Route("POST", self._on_drain, from_loopback=True)}
        super().__init__(config.metrics_listen, self._replica_metrics, routes)

    def begin(
        self,
        node: Node,
        who: ReplicaKey,
        driver: ReplicaDriver,
        absent: Callable[[], str],
        drain: Callable[[float | None], None],
    ) -> None:
        """Publish and serve what `driver` tells, until the node ends.

        `absent`: why it is not announced, or "". `drain`: called with the seconds given, if any. From any thread.
        """
        self._driver, self._absent, self._drain = driver, absent, drain
        diagnostics = DiagnosticsPublisher(node, hardware_id=str(who))

        def publish() -> None:
            try:
                now = driver.snapshot()
            except Overloaded:
                found = NO_ANSWER
            else:
                found = diagnosis.of_replica(now, self._before, absent(), driver.links())
                self._before = now
            diagnostics.publish({f"{self._service} {who}": found})

        node.create_timer(PERIOD_S, publish)
        self._replica_metrics.watch(driver.snapshot)

    def _on_ready(self, _query: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        told = self._told()
        return 200 if told["ready"] else 503, told

    def _on_drain(self, query: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        within_s = float(query["within_s"]) if "within_s" in query else None
        if within_s is not None and not 0.0 <= within_s < math.inf:
            raise ValueError(f"within_s {within_s} is no number of seconds from 0 on")
        if self._drain is None:
            return 503, self._told()
        self._drain(within_s)
        return 202, self._told()

    def _told(self) -> dict[str, Any]:
        why = self._absent()
        told = {"ready": not why, "draining": False, "drained": False, "running": 0, "waiting": 0, "why": why}
        if self._driver is None:
            return told
        try:
            now = self._driver.snapshot()
        except Overloaded as error:
            return told | {"ready": False, "why": str(error)}
        told |= {"draining": now.draining, "drained": now.drained, "running": now.running, "waiting": now.waiting}
        return told
