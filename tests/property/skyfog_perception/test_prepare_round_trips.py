"""Whatever the image, encoding, padding and byte order: the pixels that went in come out as RGB."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skyfog_core.errors import InvalidRequest
from skyfog_core.images import ENCODINGS, raw_to_rgb
from skyfog_perception.prepare import compressed_to_rgb, jpeg_size, png_size, webp_size

ORDERS = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "8UC3": [2, 1, 0], "rgba8": [0, 1, 2], "bgra8": [2, 1, 0]}
sides = st.integers(1, 24)
colours = st.tuples(sides, sides).flatmap(lambda size: arrays(np.uint8, (*size, 3)))


def write(rgb: np.ndarray, encoding: str, padding: int, big_endian: bool) -> tuple[int, bytes]:
    """The step and data of an image message; written on its own, sharing nothing with what reads it."""
    rows = []
    for row in rgb.tolist():
        line = bytearray()
        for pixel in row:
            if encoding in ORDERS:
                line += bytes(pixel[channel] for channel in ORDERS[encoding])
                line += b"\x7f" if encoding.endswith("a8") else b""
            elif encoding in ("mono8", "8UC1"):
                line += bytes([pixel[0]])
            else:
                line += (pixel[0] * 257).to_bytes(2, "big" if big_endian else "little")
        rows.append(bytes(line) + b"\xee" * padding)
    return len(rows[0]), b"".join(rows)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(rgb=colours, padding=st.integers(0, 5), big_endian=st.booleans())
def test_a_raw_image_comes_back(encoding: str, rgb: np.ndarray, padding: int, big_endian: bool) -> None:
    expected = rgb if encoding in ORDERS else np.repeat(rgb[:, :, :1], 3, axis=2)
    step, data = write(rgb, encoding, padding, big_endian)
    assert np.array_equal(raw_to_rgb(*rgb.shape[:2], encoding, step, big_endian, data), expected)


@given(rgb=colours)
def test_a_png_comes_back(rgb: np.ndarray) -> None:
    content = cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes()
    assert png_size(content) == rgb.shape[:2]
    assert np.array_equal(compressed_to_rgb(content), rgb)


@given(rgb=colours, progressive=st.booleans(), restart=st.integers(0, 3), quality=st.integers(1, 100))
def test_the_size_of_any_jpeg_is_read_from_its_header(
    rgb: np.ndarray, progressive: bool, restart: int, quality: int
) -> None:
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive), cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    content = cv2.imencode(".jpg", rgb, [*flags, cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    assert jpeg_size(content) == rgb.shape[:2]
    assert compressed_to_rgb(content).shape == rgb.shape


@given(rgb=colours, quality=st.integers(1, 101))  # above 100: without loss
def test_the_size_of_any_webp_is_read_from_its_header(rgb: np.ndarray, quality: int) -> None:
    content = cv2.imencode(".webp", rgb[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    assert webp_size(content) == rgb.shape[:2]
    back = compressed_to_rgb(content)
    assert back.shape == rgb.shape
    assert quality <= 100 or np.array_equal(back, rgb)


@given(
    height=st.integers(0, 2**32 - 1),
    width=st.integers(0, 2**32 - 1),
    encoding=st.sampled_from([*ENCODINGS, "", "yuv422", "RGB8"]),
    step=st.integers(0, 2**32 - 1),
    data=st.binary(max_size=64),
)
def test_any_fields_give_an_image_of_that_size_or_a_typed_error(
    height: int, width: int, encoding: str, step: int, data: bytes
) -> None:
    with suppress(InvalidRequest):
        assert raw_to_rgb(height, width, encoding, step, False, data).shape == (height, width, 3)


@given(
    start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBP"]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_give_an_image_or_a_typed_error(start: bytes, rest: bytes) -> None:
    with suppress(InvalidRequest):
        assert compressed_to_rgb(start + rest).ndim == 3


@pytest.mark.parametrize(("kind", "size_of"), [(".jpg", jpeg_size), (".png", png_size), (".webp", webp_size)])
@given(at=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_damaged_file_gives_an_image_of_the_size_it_claims_or_a_typed_error(
    kind: str, size_of: Callable[[bytes], tuple[int, int]], at: float, value: int
) -> None:
    gradient = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    content = bytearray(cv2.imencode(kind, gradient)[1].tobytes())
    content[int(at * len(content))] = value
    with suppress(InvalidRequest):
        assert compressed_to_rgb(bytes(content)).shape == (*size_of(bytes(content)), 3)
