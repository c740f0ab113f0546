"""From a detection head's tensors to boxes in the pixels of the original image. Pure: no state, no clock.

EfficientDet (arXiv 1911.09070, after RetinaNet, arXiv 1708.02002 §4): for every stride s of a feature map, every cell
and every pair of octave o and ratio r there is an anchor of centre (y + ½, x + ½) · s and of size
scale · s · 2^(o / octaves), as wide to high as r. The head moves and scales it: cy = ty · h + y, h' = exp(th) · h, and
the same for x and w. Of boxes of one class that overlap, only the best is kept (NMS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from skyfog_core.errors import ConfigError
from skyfog_perception.manifest import EfficientDetSpec, Model

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]
Outputs = Sequence[npt.NDArray[np.float32]]

# exp(10) times an anchor is beyond any image; more would only overflow.
MAX_LOG_SCALE = 10.0


@dataclass(frozen=True, slots=True)
class Found:
    """Detections by falling score."""

    boxes: Floats  # [N, 4] = left, top, right, bottom in pixels of the original image, inside it
    scores: Floats  # [N], 0..1
    class_ids: Ids  # [N]

    def __post_init__(self) -> None:
        assert self.boxes.shape == (len(self.scores), 4)
        assert len(self.scores) == len(self.class_ids)


class Decoder(Protocol):
    """Reads one kind of head."""

    outputs: tuple[str, ...]  # the model's outputs that `decode` takes, in this order

    def check(self, shapes: dict[str, tuple[int | None, ...]]) -> None:
        """Raise ConfigError unless the model has these outputs, with these shapes (None: free)."""

    def decode(self, outputs: Outputs, height: int, width: int, threshold: float, classes: Ids) -> Found:
        """Detections of `classes` with a score of at least `threshold` in an image of height x width pixels."""


def make_decoder(model: Model) -> Decoder:
    """The decoder that the manifest names. The next head adds a schema in `manifest.py` and a line here."""
    spec = model.manifest.decoder
    return EfficientDet(spec, (model.manifest.input.height, model.manifest.input.width), len(model.labels), model.name)


def anchors(spec: EfficientDetSpec, height: int, width: int) -> Floats:
    """[A, 4] = centre y, centre x, height, width in input pixels; by stride, row, column, octave, ratio."""
    ratios = np.sqrt(np.asarray(spec.ratios))
    parts = []
    for stride in spec.strides:
        sizes = spec.anchor_scale * stride * 2.0 ** (np.arange(spec.octaves) / spec.octaves)
        shapes = np.stack([(sizes[:, None] / ratios).ravel(), (sizes[:, None] * ratios).ravel()], axis=1)
        rows = (np.arange(-(-height // stride)) + 0.5) * stride
        columns = (np.arange(-(-width // stride)) + 0.5) * stride
        part = np.empty((len(rows), len(columns), len(shapes), 4))
        part[..., 0] = rows[:, None, None]
        part[..., 1] = columns[None, :, None]
        part[..., 2:] = shapes
        parts.append(part.reshape(-1, 4))
    return np.concatenate(parts)


class EfficientDet:
    """Decoder of EfficientDet's head."""

    def __init__(self, spec: EfficientDetSpec, input_size: tuple[int, int], classes: int, model: str) -> None:
        """`input_size` is (height, width) of the model's input; `classes` counts its labels."""
        self.outputs: tuple[str, ...] = (spec.scores, spec.boxes)
        self._spec = spec
        self._input_size = input_size
        self._classes = classes
        self._model = model
        self._anchors = anchors(spec, *input_size)

    def check(self, shapes: dict[str, tuple[int | None, ...]]) -> None:
        boxes = len(self._anchors)
        wanted = {"scores": (1, boxes, self._classes), "boxes": (1, boxes, 4)}
        for (key, shape), name in zip(wanted.items(), self.outputs, strict=True):
            has = shapes.get(name)
            if has is None:
                known = ", ".join(shapes)
                raise ConfigError(f"{self._model}: decoder.{key}: the model's outputs are {known}, not {name}")
            fits = len(has) == len(shape) and all(a in (None, b) for a, b in zip(has, shape, strict=True))
            if not fits:
                raise ConfigError(
                    f"{self._model}: decoder.{key}: {name} has shape {list(has)}, but {boxes} anchors (strides,"
                    f" octaves, ratios) and {self._classes} labels make {list(shape)}"
                )

    def decode(self, outputs: Outputs, height: int, width: int, threshold: float, classes: Ids) -> Found:
        scores, moves = outputs[0][0], outputs[1][0]
        assert scores.shape == (len(self._anchors), self._classes)
        # Most anchors see nothing: one pass over all scores leaves the few that matter.
        at_least = np.float32(threshold)
        rows = np.flatnonzero((scores >= at_least).any(axis=1))
        kept = scores[rows][:, classes]
        if not kept.size:
            return _found(np.empty((0, 4)), np.empty(0), np.empty(0, np.intp))
        best = kept.argmax(axis=1)
        top = kept[np.arange(len(rows)), best]
        order = np.argsort(-top, kind="stable")[: self._spec.max_candidates]
        order = order[top[order] >= at_least]
        boxes = self._boxes(moves[rows[order]], self._anchors[rows[order]], height, width)
        seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # outside the image nothing is left of it
        boxes, top, ids = boxes[seen], top[order][seen].astype(np.float64), classes[best[order]][seen]
        stay = suppress(boxes, ids, self._spec.iou_threshold)
        return _found(boxes[stay], top[stay], ids[stay])

    def _boxes(self, moves: npt.NDArray[np.float32], around: Floats, height: int, width: int) -> Floats:
        """[N, 4] ty, tx, th, tw around anchors -> [N, 4] left, top, right, bottom in the image, clipped to it."""
        centre = moves[:, :2] * around[:, 2:] + around[:, :2]
        size = np.exp(np.minimum(moves[:, 2:], MAX_LOG_SCALE, dtype=np.float64)) * around[:, 2:]
        per_pixel = np.array([height / self._input_size[0], width / self._input_size[1]])
        low, high = (centre - size / 2) * per_pixel, (centre + size / 2) * per_pixel
        edges = np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1)
        inside: Floats = np.clip(edges, 0.0, np.array([width, height, width, height], np.float64))
        return inside


def _found(boxes: Floats, scores: Floats, ids: Ids) -> Found:
    return Found(boxes, np.clip(scores, 0.0, 1.0), ids)


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
