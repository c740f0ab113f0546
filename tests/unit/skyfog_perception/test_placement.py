"""Where an image lies in a model's input, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skyfog_perception.manifest import InputSpec
from skyfog_perception.placement import place
from skyfog_perception.prepare import to_tensor


def spec(**changes: Any) -> InputSpec:
    given = {"name": "x", "layout": "nhwc", "dtype": "uint8", "height": 64, "width": 32, "colors": "rgb", **changes}
    return InputSpec(**given)


def test_a_stretched_image_takes_the_whole_input() -> None:
    placed = place(640, 480, spec())
    assert (placed.top, placed.left, placed.inner_height, placed.inner_width) == (0, 0, 64, 32)
    assert placed.per_pixel == (0.1, 32 / 480)


@pytest.mark.parametrize(
    ("height", "width", "top", "left", "inner"),
    [
        (64, 32, 0, 0, (64, 32)),
        (100, 100, 16, 0, (32, 32)),
        (1000, 10, 0, 15, (64, 1)),
        (1, 4096, 31, 0, (1, 32)),
        (16, 8, 0, 0, (64, 32)),
    ],
)
def test_a_letterboxed_image_keeps_its_aspect_in_the_middle(
    height: int, width: int, top: int, left: int, inner: tuple[int, int]
) -> None:
    placed = place(height, width, spec(resize="letterbox"))
    assert (placed.top, placed.left) == (top, left)
    assert (placed.inner_height, placed.inner_width) == inner


def test_boxes_come_back_in_pixels_of_the_image_and_clipped_to_it() -> None:
    placed = place(100, 100, spec(resize="letterbox"))  # 32 x 32, from row 16 on
    boxes = np.array([[0.0, 16.0, 32.0, 48.0], [8.0, 24.0, 16.0, 32.0], [-9.0, 0.0, 99.0, 17.6]])
    expected = [[0, 0, 100, 100], [25, 25, 50, 50], [0, 0, 100, 5]]
    assert placed.to_image(boxes).tolist() == [pytest.approx(row) for row in expected]


def test_the_borders_are_grey_and_the_image_is_between_them() -> None:
    image = np.full((10, 10, 3), (200, 100, 0), np.uint8)
    tensor, placed = to_tensor(image, spec(resize="letterbox"))
    assert tensor.shape == (1, 64, 32, 3)
    inner = tensor[0, placed.top : placed.top + 32]
    assert (inner == (200, 100, 0)).all()
    assert (np.delete(tensor[0], np.s_[placed.top : placed.top + 32], axis=0) == 114).all()


def test_the_border_is_normalised_as_the_image_is() -> None:
    given = spec(resize="letterbox", border=50, dtype="float32", mean=[50.0, 0.0, 0.0], std=[1.0, 25.0, 50.0])
    tensor, _ = to_tensor(np.zeros((10, 10, 3), np.uint8), given)
    assert tensor[0, 0, 0].tolist() == [0.0, 2.0, 1.0]
