"""Diagnoses as diagnostic_msgs, which rqt_robot_monitor, Foxglove and the diagnostic aggregator read."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from skyfog_core.diagnosis import Diagnosis

TOPIC = "/diagnostics"
DEPTH = 10


class DiagnosticsPublisher:
    """One DiagnosticArray at a time, each status named `<node>: <what>`."""

    def __init__(self, node: Node, hardware_id: str) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._publisher = node.create_publisher(DiagnosticArray, TOPIC, DEPTH)

    def publish(self, diagnoses: Mapping[str, Diagnosis]) -> None:
        """Publish what was found of each thing."""
        name = self._node.get_fully_qualified_name().lstrip("/")
        array = DiagnosticArray(
            status=[
                DiagnosticStatus(
                    level=bytes([found.level]),
                    name=f"{name}: {what}",
                    message=found.message,
                    hardware_id=self._hardware_id,
                    values=[KeyValue(key=key, value=value) for key, value in found.values.items()],
                )
                for what, found in diagnoses.items()
            ]
        )
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)
