"""From the bytes of a message to the tensor of a model. Plain values in: nothing here knows ROS.

Raw images follow sensor_msgs/Image: rows of `step` bytes, of which the first width * channels * bytes are pixels.
Compressed ones are recognised by their first bytes, and their size is read from the header before anything is decoded,
so that a few kilobytes cannot claim gigabytes. Pixels stay as stored: an orientation in EXIF data is not applied, as in
image_transport, so that boxes fit the image that the robot has.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from skyfog_core.config.base import nearest
from skyfog_core.errors import InvalidRequest
from skyfog_perception.manifest import InputSpec
from skyfog_perception.placement import Placement, place

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
    _check_pixels("image", height, width, max_pixels)
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


# Since OpenCV 4.11, which saves a pass over the image; None before.
STRAIGHT_TO_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)
JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"


def compressed_to_rgb(data: Any, max_pixels: int = DEFAULT_MAX_PIXELS) -> Rgb:
    """A whole JPEG or PNG file -> uint8 RGB [H, W, 3]: grey repeated, transparency dropped, 16 bits cut to 8.

    Raises InvalidRequest for other formats, files cut short or damaged, and more than `max_pixels`.
    """
    content = bytes(data)
    if not content:
        raise InvalidRequest("compressed_image.data: is empty")
    if content.startswith(JPEG_START):
        kind, size = "JPEG", jpeg_size(content)
    elif content.startswith(PNG_START):
        kind, size = "PNG", png_size(content)
    else:
        raise InvalidRequest(f"compressed_image.data: starts with {content[:8].hex(' ')}: neither JPEG nor PNG")
    _check_pixels("compressed_image", *size, max_pixels)
    try:
        flags = (cv2.IMREAD_COLOR if STRAIGHT_TO_RGB is None else STRAIGHT_TO_RGB) | cv2.IMREAD_IGNORE_ORIENTATION
        pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise InvalidRequest(f"compressed_image.data: the {kind} cannot be decoded: {error.err}") from None
    if pixels is None or pixels.shape != (*size, 3):
        raise InvalidRequest(f"compressed_image.data: the {kind} is damaged and cannot be decoded")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if STRAIGHT_TO_RGB is None else pixels, np.uint8)


def _check_pixels(field: str, height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise InvalidRequest(f"{field}: {width} x {height} pixels are too many; at most {max_pixels} are taken")


# A byte FF in JPEG's coded data is followed by 00, by a restart (D0..D7) or by fill (FF); else a marker begins.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame, of any kind
_END, _TEMPORARY = 0xD9, 0x01


def jpeg_size(content: bytes) -> tuple[int, int]:
    """(height, width) from the frame header. Raises InvalidRequest where it, or the end of the file, is missing."""
    size: tuple[int, int] | None = None
    at = 2
    while (found := _MARKER.search(content, at)) is not None:
        marker, at = content[found.start() + 1], found.end()
        if marker == _END:
            if size is None:
                raise InvalidRequest("compressed_image.data: the JPEG has no frame")
            return size
        if marker == _TEMPORARY:  # stands alone, without a segment
            continue
        if at + 2 > len(content):
            break
        (length,) = struct.unpack_from(">H", content, at)
        if marker in _SIZES and size is None and at + 7 <= len(content):
            size = struct.unpack_from(">HH", content, at + 3)
            if 0 in size:
                raise InvalidRequest(f"compressed_image.data: the JPEG says {size[1]} x {size[0]} pixels")
        at += max(length, 2)  # coded data follows the segment of a scan; the search passes over it
    raise InvalidRequest(f"compressed_image.data: the JPEG ends after {len(content)} bytes, before its end marker")


def png_size(content: bytes) -> tuple[int, int]:
    """(height, width) from the header chunk. Raises InvalidRequest where a chunk, or the last one, is missing."""
    size: tuple[int, int] | None = None
    at = len(PNG_START)
    while at + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        if size is None:
            if name != b"IHDR" or length != 13 or at + 25 > len(content):
                raise InvalidRequest("compressed_image.data: the PNG does not begin with its header chunk")
            width, height = struct.unpack_from(">II", content, at + 8)
            if not (width and height):
                raise InvalidRequest(f"compressed_image.data: the PNG says {width} x {height} pixels")
            size = (height, width)
        at += 12 + length
        if name == b"IEND" and at <= len(content):
            return size
    raise InvalidRequest(f"compressed_image.data: the PNG ends after {len(content)} bytes, before its last chunk")


def to_tensor(rgb: Rgb, spec: InputSpec) -> tuple[npt.NDArray[Any], Placement]:
    """uint8 RGB [H, W, 3] -> the model's input of `spec.shape`, the whole image resized into it, and where it lies."""
    assert rgb.ndim == 3
    assert rgb.shape[2] == 3
    assert rgb.dtype == np.uint8
    placed = place(rgb.shape[0], rgb.shape[1], spec)
    inner = (placed.inner_width, placed.inner_height)
    image: npt.NDArray[Any] = np.asarray(cv2.resize(rgb, inner, interpolation=cv2.INTER_LINEAR))
    if image.shape[:2] != (spec.height, spec.width):
        bordered = np.full((spec.height, spec.width, 3), spec.border, np.uint8)
        bordered[placed.top : placed.top + inner[1], placed.left : placed.left + inner[0]] = image
        image = bordered
    if spec.colors == "bgr":
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if spec.dtype == "float32":
        image = np.asarray(cv2.LUT(image, _normalised(spec)))
    if spec.layout == "nchw":
        image = image.transpose(2, 0, 1)
    return np.ascontiguousarray(image[None]), placed


def _normalised(spec: InputSpec) -> npt.NDArray[np.float32]:
    """[1, 256, 3]: what each value of each channel becomes. One look-up is a pass less than removing and dividing."""
    values = np.arange(256, dtype=np.float64)[:, None]
    table: npt.NDArray[np.float32] = ((values - np.asarray(spec.mean)) / np.asarray(spec.std)).astype(np.float32)
    return table[None]
