"""Hears what the robots of this ROS domain tell of their services: RouterState topics of any name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from skyfog_interfaces.msg import RouterState
from skyfog_router.nodes.state import PERIOD_S, from_message, state_qos
from skyfog_router.report import ServiceReport

TYPE = "skyfog_interfaces/msg/RouterState"
DEPTH = 1_000
SETTLE_S = 2.0  # after the newest service was first heard of: discovery brings robots one after the other
GONE_AFTER_S = 5 * PERIOD_S
SPIN_S = 0.05


class Listener:
    """The newest report of each service of each robot."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor) -> None:
        self._node, self._executor = node, executor
        self._topics: dict[str, Any] = {}
        self._heard: dict[tuple[str, str, str], tuple[float, ServiceReport]] = {}
        self._newest_s = time.monotonic()

    def reports(self) -> list[ServiceReport]:
        """By robot and service; of those heard lately."""
        since = time.monotonic() - GONE_AFTER_S
        found = [report for at, report in self._heard.values() if at >= since]
        return sorted(found, key=lambda report: (report.origin.robot, report.origin.fleet, report.service))

    def listen(self, seconds: float) -> None:
        """Take in what comes for this long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._find()
            self._executor.spin_once(min(left, SPIN_S))

    def first(self, limit_s: float) -> list[ServiceReport]:
        """The reports of all who are there, as soon as nobody new is heard of; none where nobody is within limit_s."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            self.listen(SPIN_S)
            if self._heard and time.monotonic() - self._newest_s >= SETTLE_S and not self._awaited():
                break
        return self.reports()

    def _awaited(self) -> bool:
        """Whether somebody is known to publish who was not heard yet."""
        robots = {topic: {robot for on, robot, _ in self._heard if on == topic} for topic in self._topics}
        return any(self._node.count_publishers(topic) > len(heard) for topic, heard in robots.items())

    def _find(self) -> None:
        for topic, types in self._node.get_topic_names_and_types():
            if TYPE in types and topic not in self._topics:
                self._topics[topic] = self._node.create_subscription(
                    RouterState, topic, lambda message, topic=topic: self._on_state(topic, message), state_qos(DEPTH)
                )

    def _on_state(self, topic: str, message: RouterState) -> None:
        report = from_message(message)
        key = (topic, report.origin.robot, report.service)
        if key not in self._heard:
            self._newest_s = time.monotonic()
        self._heard[key] = (time.monotonic(), report)


@contextmanager
def listener() -> Iterator[Listener]:
    """Listens until the block ends. Ctrl-C is Python's, as anywhere."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("skyfog_status", start_parameter_services=False, enable_rosout=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        yield Listener(node, executor)
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
