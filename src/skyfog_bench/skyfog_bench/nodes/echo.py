"""The service that benchmarks call: an ordinary ROS service, and the same embedded in a replica."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any

import rclpy
from pydantic import Field
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from skyfog_bench.draws import ServiceTimes
from skyfog_bench.messages import HEAD_BYTES, NUMBER, index_of, number_of
from skyfog_bench.serve import serve
from skyfog_core.cancel import Cancellation
from skyfog_core.config.base import Strict
from skyfog_core.nodes.parameters import declare
from skyfog_interfaces.srv import Echo


class EchoConfig(Strict):
    """The embedded echo service."""

    executed: Annotated[
        str, Field(description="file that gets the 8-byte number of each executed call; empty: none")
    ] = ""
    zone: Annotated[str, Field(description="for the draws of service times")] = ""
    seed: Annotated[int, Field(ge=0, description="of those draws")] = 0
    median_ms: Annotated[float, Field(ge=0, description="service time; 0: answers at once")] = 0.0
    slow_share: Annotated[float, Field(ge=0, le=1, description="share of calls that take slow_ms")] = 0.0
    slow_ms: Annotated[float, Field(ge=0, description="service time of a slow call")] = 0.0
    faulty: Annotated[bool, Field(description="obey `be` on standard input: slower by a factor, leaking")] = False


def echo(request: Any, response: Any) -> Any:
    """An ordinary service callback."""
    if request.data[:1].tobytes() == b"\x01":
        response.data = request.data
    return response


class DrawnEcho:
    """Answers after a time drawn for the call, notes what it runs, and can be made to misbehave.

    A noted execution is written out at once: it survives a SIGKILL.
    """

    def __init__(self, config: EchoConfig) -> None:
        self._config = config
        self._times = ServiceTimes(config.median_ms, slow_share=config.slow_share, slow_ms=config.slow_ms)
        self._slower = 1.0
        self._leak_mb = 0.0
        self._leaked: list[bytes] = []
        self._file = os.open(config.executed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if config.executed else -1

    def be(self, slower: float = 1.0, leak_mb: float = 0.0) -> dict[str, Any]:
        """From now on take `slower` times as long, and keep `leak_mb` more memory with each call."""
        self._slower, self._leak_mb = slower, leak_mb
        return {}

    def __call__(self, request: Any, response: Any) -> Any:
        return self.cancellable(request, response, Cancellation())

    def cancellable(self, request: Any, response: Any, cancellation: Cancellation) -> Any:
        """As skyfog_router.nodes.handlers calls it: ends early when nobody wants the answer."""
        self.take(request.data[:HEAD_BYTES].tobytes(), cancellation)
        return echo(request, response)

    def take(self, data: bytes, cancellation: Cancellation) -> None:
        """Be busy with the call whose request begins with `data`."""
        if self._file >= 0:
            os.write(self._file, data[NUMBER])
        if self._leak_mb:
            self._leaked.append(os.urandom(4096) * round(self._leak_mb * 256))  # touched: it is resident
        if self._config.median_ms:
            index = index_of(number_of(data))
            wait_s = self._slower * self._times.ms(self._config.seed, self._config.zone, index) / 1_000
            over = threading.Event()
            cancellation.on_cancel(over.set)
            over.wait(wait_s)
            cancellation.forget()


def embedded(node: Node) -> Callable[[Any, Any], Any]:
    """Factory for a replica's `embedded`."""
    config = declare(node, EchoConfig)
    if config == EchoConfig():
        return echo
    made = DrawnEcho(config)
    if config.faulty:
        # A file object of its own: the interpreter closes sys.stdin at its end, and would wait for who reads it.
        lines = os.fdopen(os.dup(0), encoding="utf-8")
        threading.Thread(target=serve, args=({"be": made.be}, lines), name="commands", daemon=True).start()
    return made


def main() -> None:
    """An ordinary ROS service of the name given as first argument."""
    rclpy.init()
    node = Node("echo_server")
    node.create_service(Echo, sys.argv[1], echo)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
