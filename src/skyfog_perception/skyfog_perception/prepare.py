"""From the bytes of a message to the tensor of a model. Plain values in: nothing here knows ROS.

Compressed images are recognised by their first bytes, and their size is read from the header before anything is
decoded, so that a few kilobytes cannot claim gigabytes. Pixels stay as stored: an orientation in EXIF data is not
applied, as in image_transport, so that boxes fit the image that the robot has.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from skyfog_core.errors import InvalidRequest
from skyfog_core.images import DEFAULT_MAX_PIXELS, Rgb, check_pixels
from skyfog_perception.manifest import InputSpec
from skyfog_perception.placement import Placement, place

# Since OpenCV 4.11, which saves a pass over the image; None before.
STRAIGHT_TO_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)
JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"
WEBP_START = re.compile(rb"RIFF....WEBP", re.DOTALL)


def compressed_to_rgb(data: Any, max_pixels: int = DEFAULT_MAX_PIXELS) -> Rgb:
    """A whole JPEG, PNG or WebP file -> uint8 RGB [H, W, 3]: grey repeated, transparency dropped, 16 bits cut to 8.

    Raises InvalidRequest for other formats, files cut short or damaged, and more than `max_pixels`.
    """
    content = bytes(data)
    if not content:
        raise InvalidRequest("compressed_image.data: is empty")
    if content.startswith(JPEG_START):
        kind, size = "JPEG", jpeg_size(content)
    elif content.startswith(PNG_START):
        kind, size = "PNG", png_size(content)
    elif WEBP_START.match(content):
        kind, size = "WebP", webp_size(content)
    else:
        raise InvalidRequest(f"compressed_image.data: starts with {content[:8].hex(' ')}: neither JPEG, PNG nor WebP")
    check_pixels("compressed_image", *size, max_pixels)
    try:
        flags = (cv2.IMREAD_COLOR if STRAIGHT_TO_RGB is None else STRAIGHT_TO_RGB) | cv2.IMREAD_IGNORE_ORIENTATION
        pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise InvalidRequest(f"compressed_image.data: the {kind} cannot be decoded: {error.err}") from None
    if pixels is None or pixels.shape != (*size, 3):
        raise InvalidRequest(f"compressed_image.data: the {kind} is damaged and cannot be decoded")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if STRAIGHT_TO_RGB is None else pixels, np.uint8)


# A byte FF in JPEG's coded data is followed by 00, by a restart (D0..D7) or by fill (FF); else a marker begins.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame, of any kind
_END, _TEMPORARY = 0xD9, 0x01
_MOVES = 0x02  # the flag of an animation in WebP's extended header


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


def webp_size(content: bytes) -> tuple[int, int]:
    """(height, width) from the first chunk: of one picture, with loss or without, or of a canvas that holds one.

    Raises InvalidRequest where the file is cut short, is none of these, or moves.
    """
    (length,) = struct.unpack_from("<I", content, 4)
    if length + 8 > len(content):
        raise InvalidRequest(f"compressed_image.data: the WebP ends after {len(content)} bytes, not {length + 8}")
    chunk, body = content[12:16], content[20:30]
    if chunk == b"VP8 " and len(body) == 10 and body[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
    elif chunk == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        (bits,) = struct.unpack_from("<I", body, 1)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8X" and len(body) == 10 and not body[0] & _MOVES:
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    else:
        raise InvalidRequest("compressed_image.data: the WebP does not begin with a still picture's header")
    if not (width and height):
        raise InvalidRequest(f"compressed_image.data: the WebP says {width} x {height} pixels")
    return height, width


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
