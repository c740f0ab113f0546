"""The service that benchmarks call: an ordinary ROS service, and the same embedded in a replica."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import rclpy
from pydantic import Field
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from skyfog_bench.messages import NUMBER
from skyfog_core.config.base import Strict
from skyfog_core.nodes.parameters import declare
from skyfog_interfaces.srv import Echo


class EchoConfig(Strict):
    """The embedded echo service."""

    executed: Annotated[
        str, Field(description="file that gets the 8-byte number of each executed call; empty: none")
    ] = ""


def echo(request: Any, response: Any) -> Any:
    """An ordinary service callback."""
    if request.data[:1].tobytes() == b"\x01":
        response.data = request.data
    return response


def embedded(node: Node) -> Callable[[Any, Any], Any]:
    """Factory for a replica's `embedded`. Each execution is written out at once: it survives a SIGKILL."""
    config = declare(node, EchoConfig)
    if not config.executed:
        return echo
    file = os.open(config.executed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def counted(request: Any, response: Any) -> Any:
        os.write(file, request.data[NUMBER].tobytes())
        return echo(request, response)

    return counted


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
