"""NanoDet's head (generalised focal loss, arXiv 2006.04388 §3).

Each cell of each stride s has a point; the distance from it to each side of the box is the mean of a distribution over
0 .. bins - 1 strides: softmax(logits) · (0, 1, …) · s.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from skyfog_perception.decode.boxes import Found, Ids, Outputs, Shape, check_outputs, finish, select
from skyfog_perception.heads import NanoDetSpec
from skyfog_perception.placement import Floats, Placement


def points(spec: NanoDetSpec, height: int, width: int) -> list[Floats]:
    """Per stride [cells, 3] = x, y, stride in input pixels, by row and column."""
    levels = []
    for stride in spec.strides:
        rows = (np.arange(-(-height // stride)) + spec.cell_offset) * stride
        columns = (np.arange(-(-width // stride)) + spec.cell_offset) * stride
        level = np.empty((len(rows), len(columns), 3))
        level[..., 0], level[..., 1], level[..., 2] = columns[None, :], rows[:, None], stride
        levels.append(level.reshape(-1, 3))
    return levels


class NanoDet:
    """Decoder of NanoDet's head."""

    def __init__(self, spec: NanoDetSpec, input_size: tuple[int, int], classes: int, model: str) -> None:
        """`input_size` is (height, width) of the model's input; `classes` counts its labels."""
        self.outputs: tuple[str, ...] = (*spec.scores, *spec.distances)
        self._spec = spec
        self._classes = classes
        self._model = model
        levels = points(spec, *input_size)
        self._cells = [len(level) for level in levels]
        self._points = np.concatenate(levels)

    def check(self, shapes: Mapping[str, Shape]) -> None:
        wanted: dict[str, tuple[str, Shape]] = {}
        for i, cells in enumerate(self._cells):
            wanted[f"scores[{i}]"] = (self._spec.scores[i], (1, cells, self._classes))
            wanted[f"distances[{i}]"] = (self._spec.distances[i], (1, cells, 4 * self._spec.bins))
        why = f"strides {self._spec.strides}, {self._classes} labels and {self._spec.bins} bins"
        check_outputs(self._model, wanted, shapes, why)

    def decode(self, outputs: Outputs, placement: Placement, threshold: float, classes: Ids) -> Found:
        levels = len(self._cells)
        scores = np.concatenate([output[0] for output in outputs[:levels]])
        best = select(scores, threshold, classes, self._spec.max_candidates)
        logits = np.concatenate([output[0] for output in outputs[levels:]])[best.rows]
        boxes = self._boxes(logits, self._points[best.rows])
        return finish(boxes, best, placement, self._spec.iou_threshold)

    def _boxes(self, logits: npt.NDArray[np.float32], at: Floats) -> Floats:
        """[N, 4 · bins] logits of left, top, right, bottom at points [N, 3] -> [N, 4] edges in input pixels."""
        spread = logits.reshape(-1, 4, self._spec.bins).astype(np.float64)
        spread = np.exp(spread - spread.max(axis=2, keepdims=True))
        far = spread @ np.arange(self._spec.bins) / spread.sum(axis=2) * at[:, 2:]
        return np.concatenate([at[:, :2] - far[:, :2], at[:, :2] + far[:, 2:]], axis=1)
