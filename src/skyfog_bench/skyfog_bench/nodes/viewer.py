"""A robot's program beside a simulated world: counts what arrives, and asks for detections in what it sees.

Commands as in skyfog_bench.serve. Times are nanoseconds of the machine's steady clock, stamps of the simulated one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import Image

from skyfog_bench.nodes.serving import run
from skyfog_interfaces.srv import Detect

NEWEST = QoSProfile(depth=1)
POLL_S = 0.02


class Viewer:
    """Subscribes while a command runs."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def watch(self, topics: list[str], seconds: float, limit_s: float) -> dict[str, Any]:
        """[arrived_ns, stamp_ns] of each topic's images over `seconds`, once one of each came. Raises TimeoutError."""
        seen: dict[str, list[tuple[int, int]]] = {topic: [] for topic in topics}
        subscriptions = [self._subscribe(topic, seen[topic]) for topic in topics]
        try:
            until = time.monotonic() + limit_s
            while not all(seen.values()):
                if time.monotonic() > until:
                    raise TimeoutError(f"nothing on {', '.join(t for t in topics if not seen[t])} in {limit_s:.0f} s")
                time.sleep(POLL_S)
            began = time.monotonic_ns()
            time.sleep(seconds)
        finally:
            for subscription in subscriptions:
                self._node.destroy_subscription(subscription)
        return {"seen": {topic: [one for one in list(found) if one[0] >= began] for topic, found in seen.items()}}

    def detect(self, topic: str, service: str, count: int, limit_s: float) -> dict[str, Any]:
        """Ask about `count` images, each as it arrives while no answer is awaited.

        Returns [asked_ns, answered_ns, status, inference_ms, detections] each. Raises TimeoutError.
        """
        client = self._node.create_client(Detect, service)
        if not client.wait_for_service(limit_s):
            raise TimeoutError(f"nobody offers {service} after {limit_s:.0f} s")
        calls: list[list[Any]] = []
        done = threading.Event()
        busy = threading.Lock()

        def look(image: Image) -> None:
            if not done.is_set() and busy.acquire(blocking=False):
                _ask(client, image, calls, answered)

        def answered() -> None:
            busy.release()
            if len(calls) >= count:
                done.set()

        subscription = self._node.create_subscription(Image, topic, look, NEWEST)
        try:
            if not done.wait(limit_s):
                raise TimeoutError(f"{service} answered {len(calls)} of {count} within {limit_s:.0f} s")
        finally:
            self._node.destroy_subscription(subscription)
        return {"calls": calls[:count]}

    def _subscribe(self, topic: str, seen: list[tuple[int, int]]) -> Subscription:
        def note(image: Image) -> None:
            stamp = image.header.stamp
            seen.append((time.monotonic_ns(), stamp.sec * 10**9 + stamp.nanosec))

        return self._node.create_subscription(Image, topic, note, 10)


def _ask(client: Client, image: Image, calls: list[list[Any]], answered: Any) -> None:
    asked_ns = time.monotonic_ns()

    def keep(future: Future) -> None:
        response = future.result()
        names = [one.class_name for one in response.detections]
        calls.append([asked_ns, time.monotonic_ns(), int(response.status.code), response.inference_ms, names])
        answered()

    client.call_async(Detect.Request(image=image)).add_done_callback(keep)


def _commands(node: Node, _executor: SingleThreadedExecutor) -> dict[str, Callable[..., Any]]:
    viewer = Viewer(node)
    return {"watch": viewer.watch, "detect": viewer.detect}


def main() -> None:
    """Serve commands until standard input ends."""
    run("bench_viewer", _commands)


if __name__ == "__main__":
    main()
