"""A semantic head and its regions, by hand on small grids."""

from __future__ import annotations

import numpy as np
import pytest

from skyfog_core.errors import ConfigError
from skyfog_perception.decode.deeplab import DeepLab, Semantic
from skyfog_perception.decode.regions import Regions, find_regions
from skyfog_perception.heads import DeepLabSpec
from skyfog_perception.placement import Placement

CLASSES = 3
ALL = np.arange(CLASSES)
SURE = 10.0


def logits_of(grid: list[str]) -> np.ndarray:
    """[1, h, w, 3] float32 from rows of class ids; the class itself is ahead by SURE."""
    ids = np.array([[int(letter) for letter in row] for row in grid])
    return (np.eye(CLASSES, dtype=np.float32) * SURE)[ids][None]


def head(layout: str = "nhwc") -> DeepLab:
    return DeepLab(DeepLabSpec(name="deeplab", logits="l", layout=layout), CLASSES, "toy")


def stretched(height: int, width: int) -> Placement:
    return Placement(height, width, 8, 8, 0, 0, 8, 8)


def decode(grid: list[str], height: int, width: int) -> Semantic:
    return head().decode([logits_of(grid)], stretched(height, width))


def regions(grid: list[str], threshold: float = 0.5, classes: np.ndarray = ALL, limit: int = 100) -> Regions:
    """With the image as large as the grid."""
    return find_regions(decode(grid, len(grid), len(grid[0])), threshold, classes, limit)


def test_a_grid_of_the_images_size_is_its_argmax() -> None:
    grid = ["0012", "0112", "2000"]
    assert decode(grid, 3, 4).mask.tolist() == [[int(letter) for letter in row] for row in grid]


def test_channels_first_is_the_same() -> None:
    logits = logits_of(["0012", "0112", "2000"])
    first = head("nchw").decode([logits.transpose(0, 3, 1, 2)], stretched(30, 40))
    assert (first.mask == head().decode([logits], stretched(30, 40)).mask).all()


def test_between_two_classes_the_border_is_in_the_middle() -> None:
    assert decode(["12"], 1, 8).mask.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]]


def test_a_class_that_is_second_at_both_points_can_be_first_between_them() -> None:
    logits = np.array([[[[10, 0, 8], [0, 10, 8]]]], np.float32)
    assert head().decode([logits], stretched(1, 8)).mask.tolist() == [[0, 0, 0, 2, 2, 1, 1, 1]]


def test_the_borders_of_a_letterbox_are_not_in_the_mask() -> None:
    grid = ["0000", "1111", "1122", "0000"]
    placed = Placement(20, 40, 8, 8, 2, 0, 4, 8)  # the middle half of the input
    mask = head().decode([logits_of(grid)], placed).mask
    assert mask.shape == (20, 40)
    assert mask[0].tolist()[:5] == [1] * 5
    assert mask[12, [0, 39]].tolist() == [1, 2]


def test_one_point_is_enough_for_a_grid() -> None:
    assert (decode(["2"], 5, 7).mask == 2).all()


def test_things_that_touch_at_a_corner_are_one_and_apart_two() -> None:
    found = regions(["1000", "0100", "0001"])
    assert sorted(found.areas.tolist()) == [1, 2]
    assert sorted(found.boxes.tolist()) == [[0, 0, 2, 2], [3, 2, 4, 3]]
    assert found.class_ids.tolist() == [1, 1]


def test_neighbours_of_two_classes_are_two() -> None:
    found = regions(["1122", "1122"])
    assert sorted(zip(found.class_ids.tolist(), found.areas.tolist(), strict=True)) == [(1, 4), (2, 4)]


def test_the_background_is_no_region() -> None:
    found = regions(["000", "000"], 0.0)
    assert found.areas.tolist() == []
    assert (found.mask == 0).all()


def test_a_score_is_the_mean_probability_of_the_class() -> None:
    logits = np.zeros((1, 1, 2, 3), np.float32)
    logits[0, 0, 0, 1] = np.log(8.0)  # 8 / 10
    logits[0, 0, 1, 1] = np.log(2.0)  # 2 / 4
    found = find_regions(head().decode([logits], stretched(1, 2)), 0.0, ALL, 9)
    assert found.scores.tolist() == pytest.approx([0.65])


def test_logits_too_large_for_an_exponential_are_no_trouble() -> None:
    logits = logits_of(["12"]) * 1e4
    found = find_regions(head().decode([logits], stretched(1, 2)), 0.5, ALL, 9)
    assert found.scores.tolist() == [1.0, 1.0]


def weak_and_strong() -> Semantic:
    """Two regions of class 1, of probability near ½ and near 1, and one of class 2 between."""
    logits = logits_of(["10201"])
    logits[0, 0, 0] = [0.0, 1.0, 0.0]
    logits[0, 0, 2, 2] = 5.0
    return head().decode([logits], stretched(1, 5))


def test_regions_fall_by_score_and_only_the_best_come() -> None:
    found = find_regions(weak_and_strong(), 0.0, ALL, 100)
    assert found.class_ids.tolist() == [1, 2, 1]
    assert (np.diff(found.scores) < 0).all()
    best = find_regions(weak_and_strong(), 0.0, ALL, 1)
    assert best.boxes.tolist() == [[4, 0, 5, 1]]
    assert best.mask.tolist() == [[0, 0, 0, 0, 1]]


def test_what_is_below_the_threshold_is_not_in_the_mask_either() -> None:
    found = find_regions(weak_and_strong(), 0.7, ALL, 100)
    assert found.mask.tolist() == [[0, 0, 2, 0, 1]]
    assert len(found.scores) == 2


def test_classes_not_asked_for_are_not_in_the_mask_and_hide_nothing() -> None:
    found = regions(["1122"], classes=np.array([2]))
    assert found.mask.tolist() == [[0, 0, 2, 2]]


@pytest.mark.parametrize(
    ("shape", "layout", "fits"),
    [
        ((1, 257, 257, 3), "nhwc", True),
        ((None, None, None, 3), "nhwc", True),
        ((1, 3, 64, 64), "nchw", True),
        ((1, 3, 64, 64), "nhwc", False),
        ((1, 257, 257, 21), "nhwc", False),
        ((1, 257, 257), "nhwc", False),
    ],
)
def test_logits_fit_the_labels(shape: tuple[int | None, ...], layout: str, fits: bool) -> None:
    if fits:
        head(layout).check({"l": shape})
    else:
        with pytest.raises(ConfigError, match=r"toy: decoder.logits: l has shape .* 3 labels"):
            head(layout).check({"l": shape})


def test_more_classes_than_a_mask_of_8_bits_holds_are_refused() -> None:
    with pytest.raises(ConfigError, match="256 classes"):
        DeepLab(DeepLabSpec(name="deeplab", logits="l"), 256, "toy")
