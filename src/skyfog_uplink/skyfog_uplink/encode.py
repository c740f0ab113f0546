"""A camera's image as the bytes of an option: made small, then compressed by OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from skyfog_core.errors import ConfigError, InvalidRequest
from skyfog_uplink.policy.model import Option

Bgr = npt.NDArray[np.uint8]  # [H, W, 3]

SUFFIXES = {"jpeg": ".jpg", "webp": ".webp", "png": ".png"}
# On a thin uplink bytes cost more than the car's milliseconds. Measured on frames of 640 x 480 and 751 x 563: PNG at
# this level is 12 to 40 % smaller than by OpenCV's default and takes 3 to 10 ms more; JPEG with Huffman tables of its
# own is 5 to 17 % smaller for 0.4 to 1 ms.
PNG_LEVEL = 1


def sent_size(height: int, width: int, option: Option) -> tuple[int, int]:
    """(height, width) of what is sent of a captured image: it fits the option's, keeps its shape and never grows."""
    if option.width == 0:
        return height, width
    shrink = min(option.height / height, option.width / width, 1.0)
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def encode(image: Bgr, option: Option) -> bytes:
    """The image's bytes on the uplink; `raw` is rows of pixels in the sent size.

    Raises ConfigError for an option that sends no image, InvalidRequest for an image that its codec cannot hold.
    """
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8
    height, width = sent_size(image.shape[0], image.shape[1], option)
    pixels: Any = image
    if (height, width) != image.shape[:2]:
        pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if option.codec == "raw":
        return np.ascontiguousarray(pixels).tobytes()
    suffix = SUFFIXES.get(option.codec)
    if suffix is None:
        raise ConfigError(f"option {option.name}: codec {option.codec!r} sends no image (allowed: {_allowed()})")
    why = ""
    try:
        good, data = cv2.imencode(suffix, pixels, _flags(option))
    except cv2.error as error:
        good, data, why = False, np.empty(0, np.uint8), f": {error.err}"
    if not good:
        raise InvalidRequest(f"option {option.name}: {width} x {height} pixels do not fit {option.codec}{why}")
    return data.tobytes()


def decode(data: bytes, option: Option, height: int, width: int) -> Bgr:
    """The image that `encode` made of a captured one of `height` x `width`, in the sent size.

    Raises InvalidRequest where the bytes are none such.
    """
    sent = (*sent_size(height, width, option), 3)
    if option.codec == "raw":
        if len(data) != np.prod(sent):
            raise InvalidRequest(f"option {option.name}: {len(data)} bytes are no {sent[1]} x {sent[0]} pixels")
        return np.frombuffer(data, np.uint8).reshape(sent)
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape != sent:
        raise InvalidRequest(f"option {option.name}: {len(data)} bytes are no {option.codec} of {sent[1]} x {sent[0]}")
    return np.asarray(pixels, np.uint8)


def _flags(option: Option) -> list[int]:
    if option.codec == "png":
        return [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL]
    if option.codec == "jpeg":
        return [cv2.IMWRITE_JPEG_QUALITY, option.quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return [cv2.IMWRITE_WEBP_QUALITY, option.quality]


def _allowed() -> str:
    return ", ".join([*SUFFIXES, "raw"])
