"""What a robot's router knows, as topics: RouterState on ~/state, and /diagnostics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from skyfog_core.diagnosis import NO_ANSWER
from skyfog_core.errors import Overloaded
from skyfog_core.nodes.diagnostics import DiagnosticsPublisher
from skyfog_core.units import S
from skyfog_interfaces.msg import ReplicaState, RouterState
from skyfog_router import diagnosis
from skyfog_router.policy.snapshot import ReplicaSnapshot, ServiceSnapshot
from skyfog_router.report import Origin, ServiceReport

PERIOD_S = 1.0
UINT32_MAX = 2**32 - 1

# Fields that have one name and one meaning in the snapshot and in the message.
_OF_SERVICE = ["policy", "rank", "in_flight", "called", "delivered", "failed", "late", "sends", "extra", "rescues"]
_OF_SERVICE += ["within_slo", "panic"]
_OF_REPLICA = ["zone", "replica", "state", "why", "local", "price_per_hour", "in_flight", "asked", "answered", "won"]
_OF_REPLICA += ["failed", "ejections", "back_in_ms"]


def state_qos(services: int) -> QoSProfile:
    """Of ~/state: who comes later gets the newest of each of the services at once."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=services,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def to_message(origin: Origin, service: str, type_name: str, snapshot: ServiceSnapshot, stamp: Any) -> RouterState:
    """A snapshot as a message; unknown times are NaN there."""
    failures = sorted(snapshot.failures.items())
    return RouterState(
        stamp=stamp,
        robot=origin.robot,
        fleet=origin.fleet,
        service=service,
        type=type_name,
        answered_locally=snapshot.local,
        slo_ms=_or_nan(snapshot.slo_ms),
        p50_ms=_or_nan(snapshot.p50_ms),
        p99_ms=_or_nan(snapshot.p99_ms),
        failure_names=[name for name, _ in failures],
        failure_counts=[count for _, count in failures],
        replicas=[
            ReplicaState(
                p50_ms=_or_nan(replica.p50_ms),
                p99_ms=_or_nan(replica.p99_ms),
                capacity=min(replica.capacity, UINT32_MAX),  # these two are what the replica said, whatever that is
                queue_depth=min(replica.queue_depth, UINT32_MAX),
                **{name: getattr(replica, name) for name in _OF_REPLICA},
            )
            for replica in snapshot.replicas
        ],
        **{name: getattr(snapshot, name) for name in _OF_SERVICE},
    )


def from_message(message: RouterState) -> ServiceReport:
    """What `to_message` was given."""
    replicas = tuple(
        ReplicaSnapshot(
            p50_ms=_or_none(replica.p50_ms),
            p99_ms=_or_none(replica.p99_ms),
            capacity=replica.capacity,
            queue_depth=replica.queue_depth,
            **{name: getattr(replica, name) for name in _OF_REPLICA},
        )
        for replica in message.replicas
    )
    snapshot = ServiceSnapshot(
        local=message.answered_locally,
        slo_ms=_or_none(message.slo_ms),
        p50_ms=_or_none(message.p50_ms),
        p99_ms=_or_none(message.p99_ms),
        failures=dict(zip(message.failure_names, map(int, message.failure_counts), strict=True)),
        replicas=replicas,
        **{name: getattr(message, name) for name in _OF_SERVICE},
    )
    stamp_ns = message.stamp.sec * S + message.stamp.nanosec
    return ServiceReport(Origin(message.robot, message.fleet), message.service, message.type, stamp_ns, snapshot)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


class StatePublisher:
    """Once in PERIOD_S: one RouterState a service on ~/state, and one status a service on /diagnostics."""

    def __init__(
        self,
        node: Node,
        origin: Origin,
        types: Mapping[str, str],
        snapshots: Callable[[], Mapping[str, ServiceSnapshot]],
    ) -> None:
        """`types`: of each service, by its ROS name. `snapshots` may raise Overloaded; it is called in the executor."""
        self._node, self._origin, self._types, self._snapshots = node, origin, dict(types), snapshots
        self._before: Mapping[str, ServiceSnapshot] = {}
        self._states = node.create_publisher(RouterState, "~/state", state_qos(len(self._types)))
        self._diagnostics = DiagnosticsPublisher(node, hardware_id=origin.robot)
        node.create_timer(PERIOD_S, self.publish)

    def publish(self) -> None:
        """Publish both now."""
        try:
            now = self._snapshots()
        except Overloaded:
            self._diagnostics.publish(dict.fromkeys(self._types, NO_ANSWER))
            return
        stamp = self._node.get_clock().now().to_msg()
        for service, snapshot in now.items():
            self._states.publish(to_message(self._origin, service, self._types[service], snapshot, stamp))
        self._diagnostics.publish(
            {service: diagnosis.of_service(snapshot, self._before.get(service)) for service, snapshot in now.items()}
        )
        self._before = now
