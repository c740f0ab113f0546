"""YOLO's, NanoDet's and RT-DETR's heads, by hand on few boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skyfog_core.errors import ConfigError
from skyfog_perception.decode.boxes import Found
from skyfog_perception.decode.nanodet import NanoDet, points
from skyfog_perception.decode.rtdetr import RtDetr
from skyfog_perception.decode.yolo import Yolo
from skyfog_perception.heads import NanoDetSpec, RtDetrSpec, YoloSpec
from skyfog_perception.placement import Placement

CLASSES = np.arange(2)
SAME = Placement(64, 64, 64, 64, 0, 0, 64, 64)  # the image is the input


def yolo(name: str, **changes: Any) -> Yolo:
    return Yolo(YoloSpec(name=name, output="out", **changes), 2, "toy")


def decode_yolo(name: str, rows: list[list[float]], threshold: float = 0.35, **changes: Any) -> Found:
    """`rows`: cx, cy, w, h, objectness (v5 only), two classes."""
    table = np.array(rows, np.float32)[None]
    return yolo(name, **changes).decode(
        [table if name == "yolov5" else table.transpose(0, 2, 1)], SAME, threshold, CLASSES
    )


def test_yolov8_has_centres_and_sizes_in_input_pixels() -> None:
    found = decode_yolo("yolov8", [[20, 30, 10, 40, 0.1, 0.9], [50, 50, 4, 4, 0.2, 0.3]])
    assert found.boxes.tolist() == [[15, 10, 25, 50]]
    assert found.class_ids.tolist() == [1]
    assert found.scores.tolist() == pytest.approx([0.9])


def test_in_yolov5_a_class_counts_as_much_as_there_is_an_object() -> None:
    found = decode_yolo("yolov5", [[20, 30, 10, 40, 0.5, 0.2, 0.8], [50, 50, 4, 4, 0.3, 1.0, 0.0]], 0.4)
    assert found.scores.tolist() == pytest.approx([0.4])
    assert found.class_ids.tolist() == [1]


@pytest.mark.parametrize(("name", "extra"), [("yolov5", [1.0]), ("yolov8", [])])
def test_of_boxes_of_one_class_that_overlap_the_better_stays(name: str, extra: list[float]) -> None:
    rows = [[20, 20, 10, 10, *extra, 0.8, 0], [21, 20, 10, 10, *extra, 0.9, 0], [21, 20, 10, 10, *extra, 0, 0.7]]
    assert decode_yolo(name, rows).scores.tolist() == pytest.approx([0.9, 0.7])
    assert decode_yolo(name, rows, iou_threshold=1.0).scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


@pytest.mark.parametrize("name", ["yolov5", "yolov8"])
def test_no_box_at_all_is_an_empty_result(name: str) -> None:
    columns = 7 if name == "yolov5" else 6
    assert decode_yolo(name, [[0.0] * columns]).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("name", "shape", "parts"),
    [
        ("yolov5", (1, 9, 6), ["[1, 9, 6]", "objectness and 2 labels", "[1, 'any', 7]"]),
        ("yolov8", (1, 9, 6), ["4 for a box and 2 labels", "[1, 6, 'any']"]),
        ("yolov8", (6, 9), ["decoder.output"]),
    ],
)
def test_a_yolo_export_with_other_classes_or_axes_is_named(name: str, shape: tuple[int, ...], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        yolo(name).check({"out": shape})
    for part in ("toy", *parts):
        assert part in str(caught.value)


def test_a_yolo_export_with_a_free_batch_axis_fits() -> None:
    yolo("yolov5").check({"out": (None, 100, 7)})
    yolo("yolov8").check({"out": (None, 6, None)})


NANO = NanoDetSpec(name="nanodet", scores=["s0", "s1"], distances=["d0", "d1"], strides=[16, 32], bins=4)


def decode_nanodet(cell: int, logits: list[list[float]], spec: NanoDetSpec = NANO) -> Found:
    """One cell of 4 x 4 + 2 x 2 sees class 0; `logits` of its left, top, right, bottom."""
    scores, far = np.zeros((20, 2), np.float32), np.zeros((20, 16), np.float32)
    scores[cell, 0] = 0.9
    far[cell] = np.array(logits, np.float32).ravel()
    outputs = [scores[None, :16], scores[None, 16:], far[None, :16], far[None, 16:]]
    return NanoDet(spec, (64, 64), 2, "toy").decode(outputs, SAME, 0.35, CLASSES)


def peak(where: int) -> list[float]:
    return [40.0 if i == where else 0.0 for i in range(4)]


def test_nanodet_measures_in_strides_from_the_middle_of_the_cell() -> None:
    found = decode_nanodet(5, [peak(1), peak(0), peak(2), peak(1)])  # row 1, column 1 of stride 16: (24, 24)
    assert found.boxes[0].tolist() == pytest.approx([24 - 16, 24, 24 + 32, 24 + 16])


def test_nanodets_levels_follow_each_other() -> None:
    found = decode_nanodet(16 + 3, [peak(1)] * 4)  # the last cell of stride 32: (48, 48)
    assert found.boxes[0].tolist() == pytest.approx([16, 16, 64, 64])


def test_a_distance_is_the_mean_of_its_distribution() -> None:
    found = decode_nanodet(5, [[0.0] * 4] * 4)
    assert found.boxes[0].tolist() == pytest.approx([0, 0, 48, 48])  # 1.5 strides


def test_nanodet_plus_measures_from_the_corner() -> None:
    plus = NANO.model_copy(update={"cell_offset": 0.0})
    assert points(plus, 64, 64)[0][5].tolist() == [16.0, 16.0, 16.0]
    found = decode_nanodet(5, [peak(1)] * 4, plus)
    assert found.boxes[0].tolist() == pytest.approx([0, 0, 32, 32])


def test_nanodet_needs_as_many_outputs_as_strides() -> None:
    with pytest.raises(ValueError, match="distances names 1 outputs for 2 strides"):
        NanoDetSpec(name="nanodet", scores=["a", "b"], distances=["c"], strides=[8, 16], bins=8)


def test_a_nanodet_with_other_cells_is_named_by_level() -> None:
    shapes = {"s0": (1, 16, 2), "s1": (1, 5, 2), "d0": (1, 16, 16), "d1": (1, 4, 16)}
    with pytest.raises(ConfigError, match=r"toy: decoder.scores\[1\]: s1 has shape \[1, 5, 2\].*\[1, 4, 2\]"):
        NanoDet(NANO, (64, 64), 2, "toy").check(shapes)


def test_rtdetr_has_parts_of_the_input_and_logits_and_nothing_is_suppressed() -> None:
    logits = np.array([[[0.0, 2.0], [3.0, -3.0], [3.0, -3.0], [-200.0, -200.0]]], np.float32)
    boxes = np.array([[[0.5, 0.5, 0.5, 0.25]] * 4], np.float32)
    decoder = RtDetr(RtDetrSpec(name="rtdetr", logits="l", boxes="b"), 2, "toy")
    found = decoder.decode([logits, boxes], SAME, 0.35, CLASSES)
    sigmoid = 1 / (1 + np.exp(-np.array([3.0, 3.0, 2.0])))
    assert found.scores.tolist() == pytest.approx(sigmoid.tolist())
    assert found.class_ids.tolist() == [0, 0, 1]
    assert found.boxes[2].tolist() == pytest.approx([16, 24, 48, 40])


def test_an_rtdetr_with_other_classes_is_named() -> None:
    decoder = RtDetr(RtDetrSpec(name="rtdetr", logits="l", boxes="b"), 2, "toy")
    decoder.check({"l": (None, 300, 2), "b": (None, 300, 4)})
    with pytest.raises(ConfigError, match=r"decoder.logits: l has shape \[1, 300, 80\]"):
        decoder.check({"l": (1, 300, 80), "b": (1, 300, 4)})
