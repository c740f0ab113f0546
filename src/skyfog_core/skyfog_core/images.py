"""Raw images of ROS as arrays. Plain values in: nothing here knows ROS.

Raw images follow sensor_msgs/Image: rows of `step` bytes, of which the first width * channels * bytes are pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from skyfog_core.config.base import nearest
from skyfog_core.errors import InvalidRequest

Rgb = npt.NDArray[np.uint8]  # [H, W, 3]

DEFAULT_MAX_PIXELS = 4096 * 4096


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one pixel lies in memory."""

    channels: int
    bytes_each: int
    to_rgb: int | None  # cv2's colour conversion; None: is RGB already


# 8UC3 says nothing of colours; OpenCV, whose name it is, means BGR. One channel is grey. 16 bits are scaled to 8.
ENCODINGS = {
    "rgb8": Encoding(3, 1, None),
    "bgr8": Encoding(3, 1, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding(4, 1, cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding(4, 1, cv2.COLOR_BGRA2RGB),
    "mono8": Encoding(1, 1, cv2.COLOR_GRAY2RGB),
    "mono16": Encoding(1, 2, cv2.COLOR_GRAY2RGB),
    "8UC1": Encoding(1, 1, cv2.COLOR_GRAY2RGB),
    "8UC3": Encoding(3, 1, cv2.COLOR_BGR2RGB),
    "16UC1": Encoding(1, 2, cv2.COLOR_GRAY2RGB),
}


def raw_to_rgb(
    height: int,
    width: int,
    encoding: str,
    step: int,
    is_bigendian: bool,
    data: Any,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Rgb:
    """The fields of a sensor_msgs/Image -> uint8 RGB [H, W, 3], which may share memory with `data`.

    `data` is anything with a buffer of bytes. Raises InvalidRequest that names the field and what is allowed.
    """
    if height < 1 or width < 1:
        raise InvalidRequest(f"image: is empty: height {height}, width {width}; each must be at least 1")
    check_pixels("image", height, width, max_pixels)
    kind = ENCODINGS.get(encoding)
    if kind is None:
        known = list(ENCODINGS)
        raise InvalidRequest(
            f"image.encoding: unknown: {encoding!r}{nearest(encoding, known)} (known: {', '.join(known)})"
        )
    row = width * kind.channels * kind.bytes_each
    if step < row:
        raise InvalidRequest(f"image.step: {step} is too small: a row of {width} pixels of {encoding} has {row} bytes")
    pixels_of = memoryview(data).cast("B") if len(data) else memoryview(b"")
    if len(pixels_of) != height * step:
        raise InvalidRequest(
            f"image.data: has {len(pixels_of)} bytes, not height * step = {height} * {step} = {height * step}"
        )
    one_byte = kind.bytes_each == 1
    pixels: npt.NDArray[Any] = np.ndarray(
        (height, width, kind.channels),
        np.dtype(np.uint8) if one_byte else np.dtype(">u2" if is_bigendian else "<u2"),
        pixels_of,
        strides=(step, kind.channels * kind.bytes_each, kind.bytes_each),
    )
    if not one_byte:
        pixels = to_8_bits(pixels)
    return pixels if kind.to_rgb is None else np.asarray(cv2.cvtColor(pixels, kind.to_rgb), np.uint8)


def to_8_bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """0..65535 -> 0..255, rounded."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def check_pixels(field: str, height: int, width: int, max_pixels: int) -> None:
    """Raise InvalidRequest for an image of more than `max_pixels`."""
    if height * width > max_pixels:
        raise InvalidRequest(f"{field}: {width} x {height} pixels are too many; at most {max_pixels} are taken")
