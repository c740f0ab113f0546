"""Boxes written as a head would say them come back, in any image, stretched or between borders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skyfog_perception.decode.boxes import BoxDecoder
from skyfog_perception.decode.nanodet import NanoDet, points
from skyfog_perception.decode.rtdetr import RtDetr
from skyfog_perception.decode.yolo import Yolo
from skyfog_perception.heads import NanoDetSpec, RtDetrSpec, YoloSpec
from skyfog_perception.manifest import InputSpec
from skyfog_perception.placement import Placement, place

SIDES = (160, 256)  # height, width of the input
CLASSES = 4
CELLS = 3  # boxes lie in cells of a grid of 3 x 3, so that none overlaps another
ROWS = 40  # of a head; those without a box see nothing
NANO = NanoDetSpec(
    name="nanodet", scores=["s0", "s1"], distances=["d0", "d1"], strides=[8, 16], bins=17, iou_threshold=0.5
)


@dataclass(frozen=True)
class Scene:
    """Boxes in an image, by falling score."""

    placement: Placement
    boxes: np.ndarray  # [N, 4] left, top, right, bottom in the image
    class_ids: np.ndarray
    scores: np.ndarray

    @property
    def in_input(self) -> np.ndarray:
        down, across = self.placement.per_pixel
        start = [self.placement.left, self.placement.top] * 2
        return self.boxes * [across, down, across, down] + start


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    resize: Literal["stretch", "letterbox"] = draw(st.sampled_from(["stretch", "letterbox"]))
    spec = InputSpec(
        name="x", layout="nchw", dtype="float32", height=SIDES[0], width=SIDES[1], colors="rgb", resize=resize
    )
    height, width = draw(st.integers(16, 4096)), draw(st.integers(16, 4096))
    cells = draw(st.lists(st.integers(0, CELLS**2 - 1), max_size=5, unique=True))
    boxes = []
    for cell in cells:
        low = np.array([draw(st.floats(0.05, 0.4)), draw(st.floats(0.05, 0.4))])
        high = np.array([draw(st.floats(0.6, 0.95)), draw(st.floats(0.6, 0.95))])
        corner = np.array([cell % CELLS, cell // CELLS])
        boxes.append(np.concatenate([(corner + low), (corner + high)]) * ([width, height] * 2) / CELLS)
    ids = np.array([draw(st.integers(0, CLASSES - 1)) for _ in cells], int)
    scores = np.linspace(0.9, 0.5, len(cells))
    return Scene(place(height, width, spec), np.array(boxes).reshape(-1, 4), ids, scores)


def check(scene: Scene, decoder: BoxDecoder, outputs: list[np.ndarray]) -> None:
    batched = [output[None].astype(np.float32) for output in outputs]
    found = decoder.decode(batched, scene.placement, 0.35, np.arange(CLASSES))
    assert found.class_ids.tolist() == scene.class_ids.tolist()
    assert found.scores == pytest.approx(scene.scores, abs=1e-5)
    # float32 in the input's pixels, in pixels of the image
    allowed = 1e-3 * max(1.0, *(1 / per_pixel for per_pixel in scene.placement.per_pixel))
    assert np.abs(found.boxes - scene.boxes).max(initial=0.0) < allowed


def one_hot(scene: Scene, rows: int) -> np.ndarray:
    scores = np.zeros((rows, CLASSES))
    scores[np.arange(len(scene.scores)), scene.class_ids] = scene.scores
    return scores


def centres(boxes: np.ndarray, rows: int) -> np.ndarray:
    table = np.zeros((rows, 4))
    table[: len(boxes)] = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    return table


@given(scene=scenes(), order=st.randoms(use_true_random=False))
def test_boxes_written_as_yolov8_come_back(scene: Scene, order: np.random.Generator) -> None:
    table = np.concatenate([centres(scene.in_input, ROWS), one_hot(scene, ROWS)], axis=1)
    rows = list(range(ROWS))
    order.shuffle(rows)
    check(scene, Yolo(YoloSpec(name="yolov8", output="o"), CLASSES, "toy"), [table[rows].T])


@given(scene=scenes(), objectness=st.floats(0.91, 1.0))
def test_boxes_written_as_yolov5_come_back(scene: Scene, objectness: float) -> None:
    some = np.zeros((ROWS, 1))
    some[: len(scene.scores)] = objectness
    table = np.concatenate([centres(scene.in_input, ROWS), some, one_hot(scene, ROWS) / objectness], axis=1)
    check(scene, Yolo(YoloSpec(name="yolov5", output="o"), CLASSES, "toy"), [table])


@given(scene=scenes())
def test_boxes_written_as_rtdetr_come_back(scene: Scene) -> None:
    logits = np.full((ROWS, CLASSES), -20.0)
    wanted = scene.scores
    logits[np.arange(len(wanted)), scene.class_ids] = np.log(wanted / (1 - wanted))
    boxes = centres(scene.in_input / ([SIDES[1], SIDES[0]] * 2), ROWS)
    check(scene, RtDetr(RtDetrSpec(name="rtdetr", logits="l", boxes="b"), CLASSES, "toy"), [logits, boxes])


def distribution(far: float) -> np.ndarray:
    """Logits whose mean is `far`: shared between the two bins around it."""
    low = int(far)
    chances = np.full(NANO.bins, 1e-12)
    chances[low] = max(1 - (far - low), 1e-12)
    chances[low + 1] = max(far - low, 1e-12)
    return np.log(chances)


@given(scene=scenes())
def test_boxes_written_as_nanodet_come_back(scene: Scene) -> None:
    levels = points(NANO, *SIDES)
    cells = [len(level) for level in levels]
    at = np.concatenate(levels)
    scores, distances = np.zeros((len(at), CLASSES)), np.zeros((len(at), 4, NANO.bins))
    taken: set[int] = set()
    for box, class_id, score in zip(scene.in_input, scene.class_ids, scene.scores, strict=True):
        far = np.concatenate([at[:, :2] - box[:2], box[2:] - at[:, :2]], axis=1) / at[:, 2:]
        can = np.flatnonzero(((far >= 0) & (far < NANO.bins - 1)).all(axis=1))
        free = [int(i) for i in can if int(i) not in taken]
        assume(free)  # of a sliver that no cell's point lies in this head cannot speak
        taken.add(free[0])
        scores[free[0], class_id] = score
        distances[free[0]] = [distribution(side) for side in far[free[0]]]
    parts = [*np.split(scores, [cells[0]]), *np.split(distances.reshape(len(at), -1), [cells[0]])]
    check(scene, NanoDet(NANO, SIDES, CLASSES, "toy"), parts)
