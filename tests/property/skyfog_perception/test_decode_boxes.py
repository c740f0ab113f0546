"""Whatever a network says: boxes lie inside the image, and no two of a class overlap too much."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skyfog_perception.decode.boxes import suppress
from skyfog_perception.decode.efficientdet import EfficientDet
from skyfog_perception.heads import EfficientDetSpec
from skyfog_perception.placement import Placement

SPEC = EfficientDetSpec(
    name="efficientdet",
    scores="s",
    boxes="b",
    strides=[16, 32],
    octaves=2,
    ratios=[1.0, 0.5],
    anchor_scale=3.0,
    max_candidates=15,
)
DECODER = EfficientDet(SPEC, (64, 32), 3, "toy")
ANCHORS = (4 * 2 + 2 * 1) * 4


def iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))


@given(
    scores=arrays(np.float32, (1, ANCHORS, 3), elements=st.floats(0, 1, width=32)),
    moves=arrays(np.float32, (1, ANCHORS, 4), elements=st.floats(-20, 20, width=32)),
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    threshold=st.floats(0, 1),
    classes=st.sets(st.integers(0, 2), min_size=1),
)
def test_detections_are_inside_sorted_bounded_and_of_wanted_classes(
    scores: np.ndarray, moves: np.ndarray, height: int, width: int, threshold: float, classes: set[int]
) -> None:
    found = DECODER.decode(
        [scores, moves], Placement(height, width, 64, 32, 0, 0, 64, 32), threshold, np.array(sorted(classes))
    )
    left, top, right, bottom = found.boxes.T
    assert ((left >= 0) & (left < right) & (right <= width)).all()
    assert ((top >= 0) & (top < bottom) & (bottom <= height)).all()
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores >= np.float32(threshold)).all()
    assert len(found.scores) <= SPEC.max_candidates
    assert set(found.class_ids.tolist()) <= classes
    for i in range(len(found.scores)):
        for j in range(i):
            if found.class_ids[i] == found.class_ids[j]:
                assert iou(found.boxes[i], found.boxes[j]) <= SPEC.iou_threshold + 1e-6


@st.composite
def piles(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Boxes on a coarse grid, so that many overlap, and their classes."""
    cell = st.integers(0, 12)
    rows = draw(st.lists(st.tuples(cell, cell, st.integers(1, 8), st.integers(1, 8), st.integers(0, 2)), max_size=25))
    table = np.array(rows, float).reshape(-1, 5)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return boxes, table[:, 4].astype(np.intp)


@given(pile=piles(), threshold=st.floats(0.05, 0.95))
def test_suppression_leaves_an_ordered_subset_and_every_loser_has_a_winner(
    pile: tuple[np.ndarray, np.ndarray], threshold: float
) -> None:
    boxes, ids = pile
    stay = suppress(boxes, ids, threshold).tolist()
    assert stay == sorted(set(stay))
    assert set(stay) <= set(range(len(boxes)))
    for index in set(range(len(boxes))) - set(stay):
        better = [winner for winner in stay if winner < index and ids[winner] == ids[index]]
        assert any(iou(boxes[winner], boxes[index]) > threshold - 1e-9 for winner in better)


@pytest.mark.skipif(not hasattr(cv2.dnn, "NMSBoxesBatched"), reason="this OpenCV has no NMSBoxesBatched")
@given(pile=piles(), threshold=st.sampled_from([0.31, 0.47, 0.53, 0.71]))
def test_suppression_agrees_with_opencv(pile: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    boxes, ids = pile
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    scores = np.linspace(0.9, 0.1, len(boxes))
    theirs = cv2.dnn.NMSBoxesBatched(sizes.tolist(), scores.tolist(), ids.tolist(), 0.0, threshold)
    assert suppress(boxes, ids, threshold).tolist() == sorted(np.asarray(theirs, int).ravel().tolist())
