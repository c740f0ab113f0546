"""Writes down what the nodes of a car's uplink say, one line of JSON a message: `… FILE TOPIC TOPIC …`.

Topics by kind: `plan=/allocator/plan`, `link=…`, `state=…`, and `answer.SERVICE=…` for each service. Lines have `at_ns`
of the machine's steady clock, `kind`, `service` where there is one, and the message's own fields.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from skyfog_bench.nodes.serving import run
from skyfog_core.units import S
from skyfog_interfaces.msg import CarDetections, UplinkLink, UplinkPlan, UplinkState

DEPTH = 200
ANSWER = "answer"
KINDS: dict[str, Any] = {"plan": UplinkPlan, "link": UplinkLink, "state": UplinkState, ANSWER: CarDetections}


class Recorder:
    """Writes from the executor's thread."""

    def __init__(self, node: Node, path: Path, topics: dict[str, str]) -> None:
        """`topics` by kind."""
        self._file = path.open("a", buffering=1)
        self.counts: dict[str, int] = dict.fromkeys(topics, 0)
        for kind, topic in topics.items():
            of, _, service = kind.partition(".")
            best_effort, latched = of == "link", of == "plan"  # as they are told
            qos = QoSProfile(
                depth=DEPTH,
                reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            )
            node.create_subscription(KINDS[of], topic, self._writer(kind, of, service), qos)

    def _writer(self, kind: str, of: str, service: str) -> Callable[[Any], None]:
        def write(message: Any) -> None:
            line = {"at_ns": time.monotonic_ns(), "kind": of} | ({"service": service} if service else {})
            fields = _answer(message) if of == ANSWER else plain(message)
            self._file.write(json.dumps(line | fields) + "\n")
            self.counts[kind] += 1

        return write

    def heard(self) -> dict[str, Any]:
        """How many messages of each kind came."""
        return {"counts": dict(self.counts)}


def plain(message: Any) -> Any:
    """A ROS message as plain values; a time as nanoseconds."""
    if hasattr(message, "nanosec"):
        return message.sec * S + message.nanosec
    if hasattr(message, "get_fields_and_field_types"):
        return {name: plain(getattr(message, name)) for name in message.get_fields_and_field_types()}
    if hasattr(message, "tolist"):
        return message.tolist()
    if isinstance(message, list | tuple):
        return [plain(one) for one in message]
    return message


def _answer(message: Any) -> dict[str, Any]:
    fields = {
        name: getattr(message, name) for name in ("source", "option", "final", "replaces", "latency_ms", "accuracy")
    }
    found = [one.class_name for one in message.detections]
    return {"stamp_ns": plain(message.header.stamp), "found": found} | fields


def _commands(node: Node, _executor: SingleThreadedExecutor) -> dict[str, Callable[..., Any]]:
    path, *topics = sys.argv[1:]
    recorder = Recorder(node, Path(path), dict(topic.split("=", 1) for topic in topics))
    return {"heard": recorder.heard}


def main() -> None:
    """Record until standard input ends."""
    run("uplink_recorder", _commands)


if __name__ == "__main__":
    main()
