"""Photographs as ROS messages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image


def photograph(name: str = "chelsea.png") -> np.ndarray:
    """Of scikit-image, uint8 BGR [H, W, 3]."""
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return cv2.imread(str(Path(spec.origin).parent / "data" / name), cv2.IMREAD_COLOR)


def raw(bgr: np.ndarray, **changes: Any) -> Image:
    """As sensor_msgs/Image; `changes` replace its fields."""
    height, width = bgr.shape[:2]
    fields = {"height": height, "width": width, "encoding": "bgr8", "step": 3 * width, **changes}
    image = Image(**fields)
    image.data.frombytes(bgr.tobytes())
    image.header.frame_id = "camera"
    return image


def jpeg(bgr: np.ndarray) -> CompressedImage:
    """As sensor_msgs/CompressedImage."""
    image = CompressedImage(format="jpeg")
    image.data.frombytes(cv2.imencode(".jpg", bgr)[1].tobytes())
    image.header.frame_id = "camera"
    return image


def bomb() -> CompressedImage:
    """A PNG of a few bytes that claims 100,000 x 100,000 pixels."""
    small = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
    image = CompressedImage(format="png")
    image.data.frombytes(small[:16] + (100_000).to_bytes(4, "big") * 2 + small[24:])
    return image
