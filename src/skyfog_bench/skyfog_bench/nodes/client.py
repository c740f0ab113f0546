"""An ordinary rclpy client that times its calls; commands as in skyfog_bench.serve.

Times are nanoseconds of the machine's steady clock, so that they can be laid beside the traces of other processes.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future

from skyfog_bench.messages import HEAD_BYTES, LONE_LANE, head, number, number_of
from skyfog_bench.nodes.serving import run
from skyfog_bench.pace import WRONG, Done, Lane, pace
from skyfog_interfaces.msg import Status
from skyfog_interfaces.srv import Echo

CALL_LIMIT_S = 30.0
DEPTH = 100  # of 50 calls at once, a queue of the default depth of 10 loses some


class BenchClient:
    """Calls by name, one at a time or at a pace."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._clients: dict[str, Client] = {}
        self._calls = 0

    def wait(self, service: str, limit_s: float) -> dict[str, Any]:
        """Until `service` is there and has answered a call with OK. Raises TimeoutError."""
        until = time.monotonic() + limit_s
        if not self._client(service).wait_for_service(limit_s):
            raise TimeoutError(f"nobody offers {service} after {limit_s:.0f} s")
        request = self._request(HEAD_BYTES)
        while True:
            status = self._call(service, request, echo=True, limit_s=max(0.1, until - time.monotonic()))[2]
            if status == Status.OK:
                return {}
            if time.monotonic() > until:
                raise TimeoutError(f"{service} answers status {status}, and no OK within {limit_s:.0f} s")

    def round(self, service: str, size: int, echo: bool, count: int, warm: int) -> dict[str, Any]:
        """`count` calls one at a time, after `warm` that are not kept: [sent_ns, answered_ns, status] each."""
        request = self._request(size)
        for _ in range(warm):
            self._call(service, request, echo=echo)
        return {"calls": [self._call(service, request, echo=echo) for _ in range(count)]}

    def paced(
        self, lanes: dict[str, int], size: int, count: int, hz: float, limit_s: float, first: int = 0
    ) -> dict[str, Any]:
        """`count` calls at `hz` of each service, whatever the answers do; see pace.pace. `lanes`: service to number."""
        made = {service: (lane, self._lane(service, size)) for service, lane in lanes.items()}
        return {"calls": pace(made, count, hz, first, limit_s)}

    def _lane(self, service: str, size: int) -> Lane:
        client, request = self._client(service), self._request(size)

        def send(numbered: int, done: Done) -> None:
            request.data[:HEAD_BYTES] = array("B", head(numbered, echo=True))

            def answered(future: Future) -> None:
                response = future.result()
                done(_status(response, numbered, size), response.status.asked)

            client.call_async(request).add_done_callback(answered)

        return send

    def _client(self, service: str) -> Client:
        if service not in self._clients:
            self._clients[service] = self._node.create_client(Echo, service, qos_profile=QoSProfile(depth=DEPTH))
        return self._clients[service]

    def _request(self, size: int) -> Any:
        return Echo.Request(data=array("B", os.urandom(size)))

    def _write_head(self, request: Any, *, echo: bool) -> int:
        self._calls += 1
        numbered = number(LONE_LANE, self._calls)
        request.data[:HEAD_BYTES] = array("B", head(numbered, echo=echo))
        return numbered

    def _call(self, service: str, request: Any, *, echo: bool, limit_s: float = CALL_LIMIT_S) -> tuple[int, int, int]:
        numbered = self._write_head(request, echo=echo)
        done = threading.Event()
        ended = 0

        def answered(_future: Future) -> None:
            nonlocal ended
            ended = time.monotonic_ns()
            done.set()

        began = time.monotonic_ns()
        future = self._client(service).call_async(request)
        future.add_done_callback(answered)
        if not done.wait(limit_s):
            raise TimeoutError(f"{service} did not answer within {limit_s:.0f} s")
        return began, ended, _status(future.result(), numbered, len(request.data) if echo else 0)


def _status(response: Any, numbered: int, size: int) -> int:
    """The answer's own status, or WRONG where it is OK with the data of another request."""
    if response.status.code != Status.OK:
        return int(response.status.code)
    right = len(response.data) == size and (size == 0 or number_of(response.data[:HEAD_BYTES].tobytes()) == numbered)
    return int(Status.OK) if right else WRONG


def _commands(node: Node, _executor: SingleThreadedExecutor) -> dict[str, Callable[..., Any]]:
    client = BenchClient(node)
    return {"wait": client.wait, "round": client.round, "paced": client.paced}


def main() -> None:
    """Serve commands until standard input ends."""
    run("bench_client", _commands)


if __name__ == "__main__":
    main()
