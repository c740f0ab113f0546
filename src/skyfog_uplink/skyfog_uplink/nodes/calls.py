"""Calls of a ROS service that may never be answered: each ends, and only so many are open at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.node import Node
from rclpy.task import Future

from skyfog_core.clock import Clock
from skyfog_core.nodes.relay import service_qos
from skyfog_core.units import MS

LOOK_S = 0.1


class Calls:
    """A client whose calls end after `limit_ms`, with None where nothing came. A killed server's never end in ROS."""

    def __init__(self, node: Node, srv_type: Any, name: str, clock: Clock, limit_ms: float, most: int) -> None:
        self._client = node.create_client(srv_type, name, qos_profile=service_qos())
        self._clock, self._limit_ns, self._most = clock, round(limit_ms * MS), most
        self._open: dict[int, tuple[int, Future, Callable[[Any | None], None]]] = {}
        self._lock = threading.Lock()
        self._number = 0
        node.create_timer(LOOK_S, self._give_up)

    def ready(self) -> bool:
        """Whether somebody offers the service. Any thread; False where ROS shuts down."""
        try:
            return bool(self._client.service_is_ready())
        except (RCLError, InvalidHandle):
            return False

    def begin(self, request: Any, done: Callable[[Any | None], None]) -> bool:
        """Any thread. Whether it was sent; then `done` hears once, from the executor's thread."""
        if len(self._open) >= self._most or not self.ready():
            return False
        try:
            future: Future = self._client.call_async(request)
        except (RCLError, InvalidHandle):
            return False
        with self._lock:
            self._number += 1
            number = self._number
            self._open[number] = (self._clock.now_ns(), future, done)
        future.add_done_callback(lambda finished: self._end(number, finished.result()))
        return True

    def _end(self, number: int, response: Any | None) -> None:
        with self._lock:
            found = self._open.pop(number, None)
        if found is not None:
            found[2](response)

    def _give_up(self) -> None:
        now_ns = self._clock.now_ns()
        with self._lock:
            old = [(number, each[1]) for number, each in self._open.items() if now_ns - each[0] > self._limit_ns]
        for number, future in old:
            self._client.remove_pending_request(future)
            self._end(number, None)
