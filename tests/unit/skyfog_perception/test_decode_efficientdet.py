"""EfficientDet's head, by hand on few anchors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skyfog_core.errors import ConfigError
from skyfog_perception.decode.boxes import Found, suppress
from skyfog_perception.decode.efficientdet import EfficientDet, anchors
from skyfog_perception.heads import EfficientDetSpec
from skyfog_perception.placement import Placement

ALL = np.arange(3)


def spec(**changes: Any) -> EfficientDetSpec:
    given = {"scores": "s", "boxes": "b", "strides": [8], "octaves": 1, "ratios": [1.0], "anchor_scale": 1.0, **changes}
    return EfficientDetSpec(name="efficientdet", **given)


def decode(scores: dict[tuple[int, int], float], moves: dict[int, list[float]] | None = None, **given: Any) -> Found:
    """A head of four anchors 8 x 8 on an input of 16 x 16, three classes; what is not given is zero."""
    s, b = np.zeros((1, 4, 3), np.float32), np.zeros((1, 4, 4), np.float32)
    for where, score in scores.items():
        s[0][where] = score
    for anchor, move in (moves or {}).items():
        b[0, anchor] = move
    options = {"height": 16, "width": 16, "threshold": 0.35, "classes": ALL, **given}
    decoder = EfficientDet(spec(**options.pop("spec", {})), (16, 16), 3, "toy")
    placement = Placement(options.pop("height"), options.pop("width"), 16, 16, 0, 0, 16, 16)
    return decoder.decode([s, b], placement, **options)


def test_anchors_run_by_row_column_octave_ratio() -> None:
    made = anchors(spec(octaves=2, ratios=[1.0, 4.0], anchor_scale=3.0), 16, 24)
    assert made.shape == (2 * 3 * 2 * 2, 4)
    assert made[0].tolist() == [4.0, 4.0, 24.0, 24.0]
    assert made[1].tolist() == [4.0, 4.0, 12.0, 48.0]
    assert made[2].tolist() == pytest.approx([4.0, 4.0, 24.0 * 2**0.5, 24.0 * 2**0.5])
    assert made[4, :2].tolist() == [4.0, 12.0]
    assert made[12, :2].tolist() == [12.0, 4.0]


def test_a_stride_that_does_not_divide_the_input_has_a_cell_for_the_rest() -> None:
    assert len(anchors(spec(strides=[8, 128]), 320, 320)) == 40 * 40 + 3 * 3


def test_an_anchor_that_is_not_moved_is_its_own_box() -> None:
    found = decode({(1, 2): 0.9})
    assert found.boxes.tolist() == [[8.0, 0.0, 16.0, 8.0]]
    assert found.class_ids.tolist() == [2]
    assert found.scores.tolist() == pytest.approx([0.9])


def test_moves_are_in_sizes_of_the_anchor_and_scales_are_logarithms() -> None:
    found = decode({(0, 0): 0.9}, {0: [0.5, 0.25, np.log(0.5), np.log(0.25)]})
    # Centre (4, 4) moved down by 4 and right by 2; 4 high, 2 wide.
    assert found.boxes[0].tolist() == pytest.approx([5.0, 6.0, 7.0, 10.0])


def test_boxes_are_in_pixels_of_the_original_image() -> None:
    found = decode({(1, 0): 0.9}, height=160, width=32)
    assert found.boxes.tolist() == [[16.0, 0.0, 32.0, 80.0]]


def test_boxes_are_clipped_to_the_image_even_from_absurd_scales() -> None:
    found = decode({(0, 0): 0.9}, {0: [0, 0, 1e9, 1e9]}, height=100, width=50)
    assert found.boxes.tolist() == [[0.0, 0.0, 50.0, 100.0]]


def test_what_lies_outside_the_image_or_is_no_number_is_dropped() -> None:
    found = decode({(0, 0): 0.9, (1, 0): 0.9, (2, 0): np.nan}, {0: [-5, 0, 0, 0], 1: [np.nan, 0, 0, 0]})
    assert len(found.scores) == 0


def test_the_threshold_is_inclusive_and_detections_fall_by_score() -> None:
    found = decode({(0, 0): 0.5, (1, 1): 0.9, (2, 2): 0.7, (3, 0): 0.49}, threshold=0.5)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.5])


def test_an_anchor_is_of_its_best_class_among_those_wanted() -> None:
    scores = {(0, 0): 0.9, (0, 1): 0.8, (0, 2): 0.7}
    assert decode(scores).class_ids.tolist() == [0]
    wanted = decode(scores, classes=np.array([1, 2]))
    assert wanted.class_ids.tolist() == [1]
    assert wanted.scores.tolist() == pytest.approx([0.8])


def test_a_class_not_asked_for_does_not_come_back() -> None:
    assert decode({(0, 0): 0.9}, classes=np.array([1, 2])).class_ids.tolist() == []


def test_nothing_found_is_an_empty_result() -> None:
    found = decode({})
    assert found.boxes.shape == (0, 4)


def test_only_the_best_candidates_are_compared() -> None:
    found = decode({(0, 0): 0.6, (1, 0): 0.9, (2, 0): 0.8, (3, 0): 0.7}, spec={"max_candidates": 2})
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])


def test_overlapping_boxes_of_one_class_are_one_and_of_two_classes_two() -> None:
    onto_the_first = {1: [0.0, -1.0, 0.0, 0.0]}
    assert decode({(0, 0): 0.8, (1, 0): 0.9}, onto_the_first).scores.tolist() == pytest.approx([0.9])
    assert decode({(0, 0): 0.8, (1, 1): 0.9}, onto_the_first).scores.tolist() == pytest.approx([0.9, 0.8])


def test_a_box_that_was_suppressed_suppresses_no_other() -> None:
    # Each overlaps the next by 3/5 of their union; the first and third by 1/3 only.
    row = np.array([[0.0, 0, 8, 1], [2.0, 0, 10, 1], [4.0, 0, 12, 1]])
    assert suppress(row, np.zeros(3, np.intp), 0.5).tolist() == [0, 2]


def test_overlap_up_to_the_threshold_is_allowed() -> None:
    halves = np.array([[0.0, 0, 2, 1], [0.0, 0, 1, 1]])
    assert suppress(halves, np.zeros(2, np.intp), 0.5).tolist() == [0, 1]
    assert suppress(halves, np.zeros(2, np.intp), 0.49).tolist() == [0]


@pytest.mark.parametrize(
    ("shapes", "parts"),
    [
        ({"s": (1, 4, 2), "b": (1, 4, 4)}, ["decoder.scores", "[1, 4, 2]", "3 labels", "[1, 4, 3]"]),
        ({"s": (1, 4, 3), "b": (1, 5, 4)}, ["decoder.boxes", "[1, 5, 4]", "4 anchors"]),
        ({"s": (1, 4, 3), "boxes": (1, 4, 4)}, ["decoder.boxes", "outputs are s, boxes, not b"]),
        ({"s": (4, 3), "b": (1, 4, 4)}, ["decoder.scores"]),
    ],
)
def test_a_model_that_does_not_fit_its_manifest_is_named(
    shapes: dict[str, tuple[int | None, ...]], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        EfficientDet(spec(), (16, 16), 3, "toy").check(shapes)
    for part in ("toy", *parts):
        assert part in str(caught.value)


def test_a_model_that_fits_is_taken_with_free_axes_too() -> None:
    EfficientDet(spec(), (16, 16), 3, "toy").check({"s": (None, 4, 3), "b": (1, None, 4), "more": (7,)})
