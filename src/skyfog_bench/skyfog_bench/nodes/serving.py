"""The main of a benchmark's client: a node that spins in a thread while it serves commands on standard input."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from skyfog_bench.serve import serve

END_LIMIT_S = 2.0


def run(name: str, commands: Callable[[Node, SingleThreadedExecutor], dict[str, Callable[..., Any]]]) -> None:
    """Serve what `commands(node, executor)` returns, by name, until standard input ends."""
    rclpy.init()
    node = Node(name)
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    served = commands(node, executor)
    spinning = threading.Thread(target=spin, daemon=True)
    spinning.start()
    try:
        serve(served)
    except KeyboardInterrupt:
        pass
    finally:
        rclpy.try_shutdown()
        spinning.join(END_LIMIT_S)
