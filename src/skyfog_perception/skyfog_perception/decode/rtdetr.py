"""RT-DETR's head (arXiv 2304.08069): a set of queries, each of which is one object or nothing; no suppression."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skyfog_perception.decode.boxes import Found, Ids, Outputs, Shape, check_outputs, finish, from_centres, select
from skyfog_perception.heads import RtDetrSpec
from skyfog_perception.placement import Placement


class RtDetr:
    """Decoder of RT-DETR's head."""

    def __init__(self, spec: RtDetrSpec, classes: int, model: str) -> None:
        """`classes` counts the model's labels."""
        self.outputs: tuple[str, ...] = (spec.logits, spec.boxes)
        self._spec = spec
        self._classes = classes
        self._model = model

    def check(self, shapes: Mapping[str, Shape]) -> None:
        wanted: dict[str, tuple[str, Shape]] = {
            "logits": (self._spec.logits, (1, None, self._classes)),
            "boxes": (self._spec.boxes, (1, None, 4)),
        }
        check_outputs(self._model, wanted, shapes, f"4 for a box and {self._classes} labels")

    def decode(self, outputs: Outputs, placement: Placement, threshold: float, classes: Ids) -> Found:
        logits, parts = outputs[0][0], outputs[1][0]
        scores = 0.5 * (1.0 + np.tanh(0.5 * logits))  # the sigmoid, without overflow
        best = select(scores, threshold, classes, self._spec.max_candidates)
        size = np.array([placement.input_width, placement.input_height] * 2, np.float64)
        return finish(from_centres(parts[best.rows]) * size, best, placement, None)
