"""YOLO exports without NMS: v5 (with an objectness) and v8 (without; v9 and v11 export alike).

Both give boxes as centre and size in input pixels; a class's score is objectness · class in v5, the class alone in v8.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skyfog_perception.decode.boxes import (
    Found,
    Ids,
    Outputs,
    Shape,
    check_outputs,
    finish,
    from_centres,
    select,
)
from skyfog_perception.heads import YoloSpec
from skyfog_perception.placement import Placement


class Yolo:
    """Decoder of both heads."""

    def __init__(self, spec: YoloSpec, classes: int, model: str) -> None:
        """`classes` counts the model's labels."""
        self.outputs: tuple[str, ...] = (spec.output,)
        self._spec = spec
        self._classes = classes
        self._model = model

    def check(self, shapes: Mapping[str, Shape]) -> None:
        if self._spec.name == "yolov5":
            shape: Shape = (1, None, 5 + self._classes)
            why = f"4 for a box, 1 for its objectness and {self._classes} labels"
        else:
            shape = (1, 4 + self._classes, None)
            why = f"4 for a box and {self._classes} labels"
        check_outputs(self._model, {"output": (self._spec.output, shape)}, shapes, why)

    def decode(self, outputs: Outputs, placement: Placement, threshold: float, classes: Ids) -> Found:
        limit = self._spec.max_candidates
        if self._spec.name == "yolov5":
            table = outputs[0][0]
            # A class's score is at most the objectness: most rows are done with by one column.
            rows = np.flatnonzero(table[:, 4] >= np.float32(threshold))
            table = table[rows]
            best = select(table[:, 5:] * table[:, 4:5], threshold, classes, limit)
        else:
            table = outputs[0][0].T
            best = select(table[:, 4:], threshold, classes, limit)
        return finish(from_centres(table[best.rows, :4]), best, placement, self._spec.iou_threshold)
