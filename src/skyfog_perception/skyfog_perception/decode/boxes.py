"""What all decoders of boxes share: the best of many candidates, in pixels of the original image. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from skyfog_core.errors import ConfigError
from skyfog_perception.placement import Floats, Placement

Ids = npt.NDArray[np.intp]
Outputs = Sequence[npt.NDArray[np.float32]]
Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Detections by falling score."""

    boxes: Floats  # [N, 4] = left, top, right, bottom in pixels of the original image, inside it
    scores: Floats  # [N], 0..1
    class_ids: Ids  # [N]

    def __post_init__(self) -> None:
        assert self.boxes.shape == (len(self.scores), 4)
        assert len(self.scores) == len(self.class_ids)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is worth a box, by falling score."""

    rows: Ids  # [N] of the head's output
    scores: npt.NDArray[np.float32]  # [N]
    class_ids: Ids  # [N]


class BoxDecoder(Protocol):
    """Reads one kind of head. Every output has a batch axis of 1."""

    outputs: tuple[str, ...]  # the model's outputs that `decode` takes, in this order

    def check(self, shapes: Mapping[str, Shape]) -> None:
        """Raise ConfigError unless the model has these outputs, with these shapes (None: free)."""

    def decode(self, outputs: Outputs, placement: Placement, threshold: float, classes: Ids) -> Found:
        """Detections of `classes` with a score of at least `threshold` in the image that was placed so."""


def check_outputs(model: str, wanted: Mapping[str, tuple[str, Shape]], shapes: Mapping[str, Shape], why: str) -> None:
    """Compare the model's output shapes with those `wanted`: manifest key -> (output, shape; None: any).

    Raises ConfigError with the key and `why` the shape is due.
    """
    for key, (name, shape) in wanted.items():
        has = shapes.get(name)
        if has is None:
            raise ConfigError(f"{model}: decoder.{key}: the model's outputs are {', '.join(shapes)}, not {name}")
        fits = len(has) == len(shape) and all(
            None in {theirs, ours} or theirs == ours for theirs, ours in zip(has, shape, strict=True)
        )
        if not fits:
            due = ["any" if side is None else side for side in shape]
            raise ConfigError(f"{model}: decoder.{key}: {name} has shape {list(has)}, but {why} make {due}")


def select(scores: npt.NDArray[np.float32], threshold: float, classes: Ids, limit: int) -> Candidates:
    """[N, all classes] scores -> at most `limit` rows, each as the best of `classes`, with at least `threshold`."""
    # Most rows see nothing: one pass over all scores leaves the few that matter.
    at_least = np.float32(threshold)
    rows = np.flatnonzero((scores >= at_least).any(axis=1))
    kept = scores[rows][:, classes]
    if not kept.size:
        return Candidates(np.empty(0, np.intp), np.empty(0, np.float32), np.empty(0, np.intp))
    best = kept.argmax(axis=1)
    top = kept[np.arange(len(rows)), best]
    order = np.argsort(-top, kind="stable")[:limit]
    order = order[top[order] >= at_least]
    return Candidates(rows[order], top[order], classes[best[order]])


def finish(boxes: Floats, of: Candidates, placement: Placement, iou_threshold: float | None) -> Found:
    """Candidates and their boxes, [N, 4] left, top, right, bottom in input pixels -> what is found in the image.

    `iou_threshold`: of two boxes of a class that overlap more, the better stays; None: all stay.
    """
    placed = placement.to_image(boxes)
    seen = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])  # outside the image nothing is left of it
    placed, scores, ids = placed[seen], of.scores[seen].astype(np.float64), of.class_ids[seen]
    if iou_threshold is not None:
        stay = suppress(placed, ids, iou_threshold)
        placed, scores, ids = placed[stay], scores[stay], ids[stay]
    return Found(placed, np.clip(scores, 0.0, 1.0), ids)


def from_centres(boxes: npt.NDArray[np.float32]) -> Floats:
    """[N, 4] centre x, centre y, width, height -> left, top, right, bottom."""
    centre, half = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def suppress(boxes: Floats, class_ids: Ids, iou_threshold: float) -> Ids:
    """Class-wise NMS: indices that stay, in order. `boxes` [N, 4] must come by falling score.

    In numpy, since cv2.dnn.NMSBoxesBatched is not in the OpenCV of Ubuntu 24.04 and takes lists.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(boxes), bool)
    stay = []
    for index in range(len(boxes)):
        if not alive[index]:
            continue
        stay.append(index)
        rest = slice(index + 1, None)
        shared = np.minimum(boxes[rest, 2:], boxes[index, 2:]) - np.maximum(boxes[rest, :2], boxes[index, :2])
        both = np.clip(shared, 0.0, None).prod(axis=1)
        overlap = both > iou_threshold * (area[rest] + area[index] - both)
        alive[rest] &= ~(overlap & (class_ids[rest] == class_ids[index]))
    return np.asarray(stay, np.intp)
