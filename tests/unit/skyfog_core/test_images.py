"""Raw images come out as RGB, or the field at fault is named."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest

from skyfog_core.errors import InvalidRequest
from skyfog_core.images import ENCODINGS, raw_to_rgb, to_8_bits


@pytest.mark.parametrize(
    ("encoding", "pixel", "rgb"),
    [
        ("rgb8", [1, 2, 3], [1, 2, 3]),
        ("bgr8", [1, 2, 3], [3, 2, 1]),
        ("8UC3", [1, 2, 3], [3, 2, 1]),
        ("rgba8", [1, 2, 3, 9], [1, 2, 3]),
        ("bgra8", [1, 2, 3, 9], [3, 2, 1]),
        ("mono8", [7], [7, 7, 7]),
        ("8UC1", [7], [7, 7, 7]),
        ("mono16", [0x34, 0x12], [18, 18, 18]),
        ("16UC1", [0x34, 0x12], [18, 18, 18]),
    ],
)
def test_each_encoding_becomes_rgb(encoding: str, pixel: list[int], rgb: list[int]) -> None:
    image = raw_to_rgb(2, 3, encoding, 3 * len(pixel), False, bytes(pixel * 6))
    assert image.shape == (2, 3, 3)
    assert image.dtype == np.uint8
    assert (image == rgb).all()


def test_every_encoding_has_its_test() -> None:
    marks = test_each_encoding_becomes_rgb.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(ENCODINGS)


def test_big_endian_swaps_the_bytes_of_16_bit_pixels_only() -> None:
    assert (raw_to_rgb(1, 1, "mono16", 2, True, b"\x12\x34") == 18).all()
    assert (raw_to_rgb(1, 1, "rgb8", 3, True, b"\x01\x02\x03") == [1, 2, 3]).all()


def test_padding_at_the_end_of_rows_is_no_pixel() -> None:
    image = raw_to_rgb(2, 1, "mono8", 3, False, bytes([5, 99, 99, 6, 99, 99]))
    assert image[:, 0, 0].tolist() == [5, 6]


def test_16_bit_rows_may_have_an_odd_step() -> None:
    image = raw_to_rgb(2, 1, "mono16", 3, False, bytes([0, 5, 99, 0, 6, 99]))
    assert image[:, 0, 0].tolist() == [5, 6]


def test_the_arrays_of_ros_messages_are_taken() -> None:
    assert (raw_to_rgb(1, 1, "bgr8", 3, False, array("B", [1, 2, 3])) == [3, 2, 1]).all()


def test_16_bits_are_scaled_to_8_over_the_whole_range() -> None:
    assert to_8_bits(np.arange(256, dtype=np.uint16) * 257).tolist() == list(range(256))
    assert to_8_bits(np.array([128, 129, 65535 - 128], np.uint16)).tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"height": 0}, ["empty", "height 0"]),
        ({"width": 0}, ["empty", "width 0"]),
        ({"height": 4097, "width": 4096}, ["4096 x 4097", "at most 16777216"]),
        ({"encoding": "rgb"}, ["image.encoding", "'rgb'", "did you mean 'rgb8'", "mono16"]),
        ({"encoding": ""}, ["image.encoding", "''"]),
        ({"step": 8}, ["image.step", "8 is too small", "9 bytes"]),
        ({"step": 10}, ["image.data", "18 bytes", "2 * 10 = 20"]),
        ({"data": b""}, ["image.data", "0 bytes"]),
        ({"data": bytes(17)}, ["image.data", "17 bytes"]),
        ({"data": bytes(19)}, ["image.data", "19 bytes"]),
    ],
)
def test_a_wrong_field_of_a_raw_image_is_named(changes: dict[str, Any], parts: list[str]) -> None:
    fields = {"height": 2, "width": 3, "encoding": "rgb8", "step": 9, "is_bigendian": False, "data": bytes(18)}
    with pytest.raises(InvalidRequest) as caught:
        raw_to_rgb(**{**fields, **changes})
    for part in parts:
        assert part in str(caught.value)
