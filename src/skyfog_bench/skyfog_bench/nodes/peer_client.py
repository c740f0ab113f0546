"""Calls of the peers that have a client of their own, at the same pace as nodes/client.py.

`python -m skyfog_bench.nodes.peer_client CONFIG`, a JSON object with `deadline_ms`, `zenoh` (endpoint to listen on),
`grpc` (ports; empty: none), `services` (ROS services that are tried in turn) and `try_ms`. Its lanes are `native`,
`zenoh` and `grpc`.
"""

from __future__ import annotations

import json
import os
import sys
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future

from skyfog_bench.baselines.timeout_retry import TimeoutRetry
from skyfog_bench.baselines.zenoh_echo import KEY
from skyfog_bench.messages import HEAD_BYTES, head, number_of
from skyfog_bench.nodes.client import DEPTH
from skyfog_bench.nodes.serving import run
from skyfog_bench.pace import WRONG, Done, Lane, pace
from skyfog_core.clock import SteadyClock
from skyfog_core.config.router import ZenohConfig
from skyfog_core.errors import Status
from skyfog_core.owner import Owner
from skyfog_core.units import MS
from skyfog_interfaces.srv import Echo
from skyfog_router.transport.zenoh import open_session

THREADS = 64  # calls that wait for zenoh at once
LIMIT = 10_000


class NativeLane:
    """Ordinary ROS 2 clients of several servers, with baselines.timeout_retry in a thread of its own."""

    def __init__(self, node: Node, services: list[str], try_ns: int, max_tries: int) -> None:
        self._clients = [node.create_client(Echo, name, qos_profile=QoSProfile(depth=DEPTH)) for name in services]
        self._policy = TimeoutRetry(len(services), try_ns, max_tries)
        self._calls: dict[int, tuple[Any, Done, int]] = {}  # request, done, servers asked
        self._owner = Owner("native", SteadyClock(), self._on_timer, LIMIT)
        self._owner.start()

    def __call__(self, numbered: int, done: Done, data: bytes) -> None:
        request = Echo.Request(data=array("B", data))

        def begin(now_ns: int) -> None:
            self._calls[numbered] = (request, done, 0)
            self._ask(numbered, self._policy.on_call(numbered, now_ns))

        self._owner.submit(begin)

    def ready(self) -> bool:
        return all(client.service_is_ready() for client in self._clients)

    def _ask(self, numbered: int, server: int) -> None:
        request, done, asked = self._calls[numbered]
        self._calls[numbered] = (request, done, asked + 1)

        def answered(future: Future) -> None:
            data = future.result().data.tobytes()
            self._owner.post(lambda _now_ns: self._answered(numbered, server, data))

        self._clients[server].call_async(request).add_done_callback(answered)

    def _answered(self, numbered: int, server: int, data: bytes) -> None:
        if self._policy.on_answer(numbered, server):
            _, done, asked = self._calls.pop(numbered)
            done(_status(data, numbered), asked)

    def _on_timer(self, now_ns: int) -> int | None:
        for numbered, server in self._policy.on_timer(now_ns):
            if server is None:
                _, done, asked = self._calls.pop(numbered)
                done(int(Status.DEADLINE_EXCEEDED), asked)
            else:
                self._ask(numbered, server)
        return self._policy.next_timer_ns()


class ZenohLane:
    """A plain get with its default target, BEST_MATCHING: one of the complete queryables answers."""

    def __init__(self, endpoint: str, deadline_s: float) -> None:
        self._session: Any = open_session(ZenohConfig(listen=[endpoint]))
        self._deadline_s = deadline_s
        self._pool = ThreadPoolExecutor(THREADS)

    def __call__(self, numbered: int, done: Done, data: bytes) -> None:
        self._pool.submit(self._get, numbered, done, data)

    def _get(self, numbered: int, done: Done, data: bytes) -> None:
        replies = self._session.get(KEY, payload=data, timeout=self._deadline_s)
        got = [reply.ok.payload.to_bytes() for reply in replies if reply.ok is not None]
        done(_status(got[0], numbered) if got else int(Status.OUTCOME_UNKNOWN), 1)


class GrpcLane:
    """grpcio with its retry policy, round robin and keep-alive."""

    def __init__(self, ports: list[int], deadline_s: float) -> None:
        from skyfog_bench.baselines.grpc_echo import RETRY, connect  # noqa: PLC0415 - an extra

        self._method = connect(ports, RETRY)
        self._deadline_s = deadline_s

    def __call__(self, numbered: int, done: Done, data: bytes) -> None:
        call = self._method.future(data, timeout=self._deadline_s, wait_for_ready=True)

        def answered(future: Any) -> None:
            failed = future.cancelled() or future.exception() is not None
            done(int(Status.OUTCOME_UNKNOWN) if failed else _status(future.result(), numbered), 0)

        call.add_done_callback(answered)


def _status(data: bytes, numbered: int) -> int:
    return int(Status.OK) if data and number_of(data) == numbered else WRONG


class PeerClient:
    """The commands."""

    def __init__(self, node: Node, config: dict[str, Any]) -> None:
        deadline_s = config["deadline_ms"] / 1_000
        tries = max(1, config["deadline_ms"] // config["try_ms"])
        self._native = NativeLane(node, config["services"], config["try_ms"] * MS, tries)
        self._lanes: dict[str, Callable[[int, Done, bytes], None]] = {
            "native": self._native,
            "zenoh": ZenohLane(config["zenoh"], deadline_s),
        }
        if config["grpc"]:
            self._lanes["grpc"] = GrpcLane(config["grpc"], deadline_s)

    def ready(self) -> dict[str, Any]:
        """Whether every server of the native lane has been found."""
        return {"ready": self._native.ready()}

    def paced(
        self, lanes: dict[str, int], size: int, count: int, hz: float, limit_s: float, first: int = 0
    ) -> dict[str, Any]:
        """As nodes/client.py's."""
        made = {name: (lane, self._lane(name, size)) for name, lane in lanes.items()}
        return {"calls": pace(made, count, hz, first, limit_s)}

    def _lane(self, name: str, size: int) -> Lane:
        filling, send = os.urandom(size - HEAD_BYTES), self._lanes[name]
        return lambda numbered, done: send(numbered, done, head(numbered, echo=True) + filling)


def _commands(node: Node, _executor: SingleThreadedExecutor) -> dict[str, Callable[..., Any]]:
    client = PeerClient(node, json.loads(sys.argv[1]))
    return {"ready": client.ready, "paced": client.paced}


def main() -> None:
    """Serve commands until standard input ends."""
    run("peer_client", _commands)


if __name__ == "__main__":
    main()
