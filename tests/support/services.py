"""Services that tests embed in replicas, as a user would write them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import structlog

from skyfog_core import budget
from skyfog_core.errors import Overloaded

log = structlog.get_logger()


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


def gated_echo(_node: Any) -> Any:
    """Echo once the file exists that the data names."""
    tick = threading.Event()

    def callback(request: Any, response: Any) -> Any:
        path = Path(bytes(request.data).decode())
        log.info("began", path=path.name)
        while not path.exists():
            tick.wait(0.01)
        response.data = request.data
        return response

    return callback


class WarmingEcho:
    """Echo that is warm once the node's `gate` exists; what the file says, it raises."""

    def __init__(self, node: Any) -> None:
        self._gate = Path(node.get_parameter("gate").value)

    def __call__(self, request: Any, response: Any) -> Any:
        response.data = request.data
        return response

    def warm_up(self) -> None:
        log.info("warming")
        tick = threading.Event()
        while not self._gate.exists():
            tick.wait(0.01)
        if wrong := self._gate.read_text():
            raise RuntimeError(wrong)


warming_echo = WarmingEcho


def without_room(_node: Any) -> Any:
    """Refuse what has a budget, as a service does whose own queue is full."""

    def callback(request: Any, response: Any) -> Any:
        if budget.deadline_ns() is not None:
            raise Overloaded("no room for it")
        return response

    return callback


def failing(_node: Any) -> Any:
    """Raise, as a service with a bug does."""

    def callback(request: Any, _response: Any) -> Any:
        raise RuntimeError(f"no idea what to do with {len(request.data)} bytes")

    return callback


def quality(node: Any) -> Any:
    """A plan whose `path_length_rad` is the node's `length`, after its `delay_ms`."""
    delay_s, length = (node.get_parameter(name).value for name in ("delay_ms", "length"))
    pause = threading.Event()

    def callback(_request: Any, response: Any) -> Any:
        pause.wait(delay_s / 1000)
        response.path_length_rad = length
        return response

    return callback


def lying_echo(node: Any) -> Any:
    """Echo, and one byte that is the node's own."""
    own = node.get_parameter("own").value

    def callback(request: Any, response: Any) -> Any:
        response.data = [*request.data, own]
        return response

    return callback


def right_half(_node: Any) -> Any:
    """A Detect that sees one `cloud` over the right half of whatever image it is sent."""
    import cv2  # the other services need neither
    import numpy as np

    from skyfog_interfaces.msg import Detection

    def callback(request: Any, response: Any) -> Any:
        sent: Any = cv2.imdecode(np.frombuffer(request.compressed_image.data, np.uint8), cv2.IMREAD_COLOR)
        height, width = sent.shape[:2]
        seen = Detection(class_id="1", class_name="cloud", score=0.9)
        seen.bbox.center.position.x, seen.bbox.center.position.y = 0.75 * width, 0.5 * height
        seen.bbox.size_x, seen.bbox.size_y = 0.5 * width, float(height)
        response.header, response.detections = request.compressed_image.header, [seen]
        return response

    return callback
