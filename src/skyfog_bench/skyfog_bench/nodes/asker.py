"""A robot's program that asks for detections in one photograph, one at a time at a pace; commands as in serve.py.

python -m skyfog_bench.nodes.asker IMAGE
"""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

from skyfog_bench.nodes.serving import run
from skyfog_interfaces.srv import Detect

CALL_LIMIT_S = 30.0


class Asker:
    """Calls a service by name."""

    def __init__(self, node: Node, jpeg: bytes) -> None:
        self._node = node
        self._request = Detect.Request()
        self._request.compressed_image.data = array("B", jpeg)
        self._clients: dict[str, Client] = {}

    def ask(self, service: str, count: int, pace_s: float, limit_s: float) -> dict[str, Any]:
        """[milliseconds, status] of each call; the next one begins `pace_s` after the last began, or with its answer.

        Raises TimeoutError where nobody offers the service within `limit_s`, or does not answer.
        """
        client = self._client(service)
        if not client.wait_for_service(limit_s):
            raise TimeoutError(f"nobody offers {service} after {limit_s:.0f} s")
        calls = []
        for _ in range(count):
            due_s = time.monotonic() + pace_s
            calls.append(self._call(client))
            time.sleep(max(0.0, due_s - time.monotonic()))
        return {"calls": calls}

    def _client(self, service: str) -> Client:
        if service not in self._clients:
            self._clients[service] = self._node.create_client(Detect, service)
        return self._clients[service]

    def _call(self, client: Client) -> tuple[float, int]:
        done = threading.Event()
        ended = 0.0

        def answered(_future: Future) -> None:
            nonlocal ended
            ended = time.monotonic()
            done.set()

        began = time.monotonic()
        future = client.call_async(self._request)
        future.add_done_callback(answered)
        if not done.wait(CALL_LIMIT_S):
            raise TimeoutError(f"no answer within {CALL_LIMIT_S:.0f} s")
        return (ended - began) * 1e3, int(future.result().status.code)


def _commands(node: Node, _executor: SingleThreadedExecutor) -> dict[str, Callable[..., Any]]:
    return {"ask": Asker(node, Path(sys.argv[1]).read_bytes()).ask}


def main() -> None:
    """Serve commands until standard input ends."""
    run("bench_asker", _commands)


if __name__ == "__main__":
    main()
