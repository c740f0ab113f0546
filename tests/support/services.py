"""Services that tests embed in replicas, as a user would write them."""

from __future__ import annotations

import threading
from typing import Any


def echo(_node: Any) -> Any:
    """Echo: the data comes back."""

    def callback(request: Any, response: Any) -> Any:
        response.data = request.data
        return response

    return callback


def slow_echo(node: Any) -> Any:
    """Echo after the node's `delay_ms`."""
    delay_s = node.get_parameter_or("delay_ms").value / 1000
    pause = threading.Event()

    def callback(request: Any, response: Any) -> Any:
        pause.wait(delay_s)
        response.data = request.data
        return response

    return callback


def failing(_node: Any) -> Any:
    """Raise, as a service with a bug does."""

    def callback(request: Any, _response: Any) -> Any:
        raise RuntimeError(f"no idea what to do with {len(request.data)} bytes")

    return callback
