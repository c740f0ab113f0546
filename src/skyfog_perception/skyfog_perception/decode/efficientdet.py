"""EfficientDet's head (arXiv 1911.09070, after RetinaNet, arXiv 1708.02002 §4).

For every stride s of a feature map, every cell and every pair of octave o and ratio r there is an anchor of centre
(y + ½, x + ½) · s and of size scale · s · 2^(o / octaves), as wide to high as r. The head moves and scales it:
cy = ty · h + y, h' = exp(th) · h, and the same for x and w. Of boxes of one class that overlap, only the best is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from skyfog_perception.decode.boxes import Found, Ids, Outputs, Shape, check_outputs, finish, select
from skyfog_perception.heads import EfficientDetSpec
from skyfog_perception.placement import Floats, Placement

# exp(10) times an anchor is beyond any image; more would only overflow.
MAX_LOG_SCALE = 10.0


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
        self._classes = classes
        self._model = model
        self._anchors = anchors(spec, *input_size)

    def check(self, shapes: Mapping[str, Shape]) -> None:
        boxes = len(self._anchors)
        wanted: dict[str, tuple[str, Shape]] = {
            "scores": (self._spec.scores, (1, boxes, self._classes)),
            "boxes": (self._spec.boxes, (1, boxes, 4)),
        }
        why = f"{boxes} anchors (strides, octaves, ratios) and {self._classes} labels"
        check_outputs(self._model, wanted, shapes, why)

    def decode(self, outputs: Outputs, placement: Placement, threshold: float, classes: Ids) -> Found:
        scores, moves = outputs[0][0], outputs[1][0]
        assert scores.shape == (len(self._anchors), self._classes)
        best = select(scores, threshold, classes, self._spec.max_candidates)
        boxes = _moved(moves[best.rows], self._anchors[best.rows])
        return finish(boxes, best, placement, self._spec.iou_threshold)


def _moved(moves: npt.NDArray[np.float32], around: Floats) -> Floats:
    """[N, 4] ty, tx, th, tw around anchors -> [N, 4] left, top, right, bottom in input pixels."""
    centre = moves[:, :2] * around[:, 2:] + around[:, :2]
    size = np.exp(np.minimum(moves[:, 2:], MAX_LOG_SCALE, dtype=np.float64)) * around[:, 2:]
    low, high = centre - size / 2, centre + size / 2
    return np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1)
