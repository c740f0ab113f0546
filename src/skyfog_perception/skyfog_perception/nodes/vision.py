"""Our messages as those of vision_msgs, for RViz and Foxglove; only where that package is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from skyfog_core.errors import ConfigError

MESSAGES = "vision_msgs.msg"


def load_vision_msgs() -> Any:
    """The module with the messages. Raises ConfigError where it is not installed."""
    try:
        return importlib.import_module(MESSAGES)
    except ModuleNotFoundError as error:
        raise ConfigError(f"vision_msgs is not installed ({error}): apt-get install ros-jazzy-vision-msgs") from None


def to_detection_array(detections: Iterable[Any], header: Any, messages: Any) -> Any:
    """skyfog_interfaces/Detection[] -> vision_msgs/Detection2DArray; `messages` is vision_msgs.msg."""
    array = messages.Detection2DArray(header=header)
    array.detections = [to_detection(one, header, messages) for one in detections]
    return array


def to_detection(one: Any, header: Any, messages: Any) -> Any:
    """skyfog_interfaces/Detection -> vision_msgs/Detection2D. Our boxes have the same fields in types of our own."""
    made = messages.Detection2D(header=header)
    result = messages.ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = one.class_id, one.score
    made.results = [result]
    made.bbox.center.position.x = one.bbox.center.position.x
    made.bbox.center.position.y = one.bbox.center.position.y
    made.bbox.center.theta = one.bbox.center.theta
    made.bbox.size_x, made.bbox.size_y = one.bbox.size_x, one.bbox.size_y
    return made
