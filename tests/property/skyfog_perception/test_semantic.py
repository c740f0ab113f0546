"""The mask is what resizing all logits would give, and it agrees with its regions."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skyfog_perception.decode import regions
from skyfog_perception.decode.deeplab import DeepLab, Semantic
from skyfog_perception.decode.regions import CONNECTIVITY, find_regions
from skyfog_perception.heads import DeepLabSpec
from skyfog_perception.placement import Placement

CLASSES = 5
DECODER = DeepLab(DeepLabSpec(name="deeplab", logits="l"), CLASSES, "toy")
TIE = 1e-3


@st.composite
def heads(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    """Logits [h, w, CLASSES], rough or smooth, and the size of an image."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    coarse = rng.normal(0, 3, (draw(st.integers(1, 6)), draw(st.integers(1, 6)), CLASSES)).astype(np.float32)
    logits = cv2.resize(coarse, (width, height)).reshape(height, width, CLASSES)
    if draw(st.booleans()):
        logits = logits + rng.normal(0, 1, logits.shape).astype(np.float32)
    return logits, draw(st.integers(1, 90)), draw(st.integers(1, 90))


def decode(logits: np.ndarray, height: int, width: int) -> Semantic:
    return DECODER.decode([logits[None]], Placement(height, width, 64, 64, 0, 0, 64, 64))


@given(head=heads())
def test_a_mask_is_the_argmax_of_resized_logits(head: tuple[np.ndarray, int, int]) -> None:
    logits, height, width = head
    mask = decode(logits, height, width).mask
    resized = np.stack([cv2.resize(logits[..., i], (width, height)) for i in range(CLASSES)], axis=-1)
    resized = resized.reshape(height, width, CLASSES)
    chosen = np.take_along_axis(resized, mask[..., None].astype(int), axis=2)[..., 0]
    # Where two classes are as good as equal, rounding may decide either way.
    assert (resized.max(axis=2) - chosen).max() <= TIE


@given(head=heads())
def test_a_mirrored_head_is_a_mirrored_mask(head: tuple[np.ndarray, int, int]) -> None:
    logits, height, width = head
    mask = decode(logits, height, width).mask
    mirrored = decode(np.ascontiguousarray(logits[:, ::-1]), height, width).mask
    resized = np.stack([cv2.resize(logits[..., i], (width, height)) for i in range(CLASSES)], axis=-1)
    best = np.sort(resized.reshape(height, width, CLASSES), axis=2)
    clear = best[..., -1] - best[..., -2] > TIE
    assert (mask[clear] == mirrored[:, ::-1][clear]).all()


@given(
    head=heads(),
    threshold=st.floats(0, 1),
    classes=st.sets(st.integers(1, CLASSES - 1), min_size=1),
    limit=st.integers(1, 12),
)
def test_mask_and_regions_say_the_same(
    head: tuple[np.ndarray, int, int], threshold: float, classes: set[int], limit: int
) -> None:
    seen = decode(*head)
    found = find_regions(seen, threshold, np.array(sorted(classes)), limit)
    assert len(found.scores) <= limit
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores >= np.float32(threshold)).all()
    assert set(found.class_ids.tolist()) <= classes
    assert found.areas.sum() == (found.mask > 0).sum()
    shown = found.mask > 0
    assert (found.mask[shown] == seen.mask[shown]).all()
    for class_id, (left, top, right, bottom), area in zip(
        found.class_ids.tolist(), found.boxes.tolist(), found.areas.tolist(), strict=True
    ):
        inside = found.mask[top:bottom, left:right] == class_id
        assert inside.any(axis=1).all()
        assert inside.any(axis=0).all()
        assert area <= inside.sum()


@given(head=heads())
def test_outlines_and_statistics_tell_the_same_boxes_and_areas(head: tuple[np.ndarray, int, int]) -> None:
    mask = decode(*head).mask
    for class_id in np.unique(mask):
        member = (mask == class_id).view(np.uint8)
        _, labels, table, _ = cv2.connectedComponentsWithStats(member, connectivity=CONNECTIVITY, ltype=cv2.CV_32S)
        few, many = regions._few(member, labels), regions._many(table)
        assert few[0].tolist() == many[0].tolist()
        assert few[1].tolist() == many[1].tolist()


@given(head=heads())
def test_with_nothing_left_out_the_regions_are_all_of_the_mask(head: tuple[np.ndarray, int, int]) -> None:
    seen = decode(*head)
    assert (find_regions(seen, 0.0, np.arange(CLASSES), 100_000).mask == seen.mask).all()
