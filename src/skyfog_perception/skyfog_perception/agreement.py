"""How far two answers about the same picture agree: one of the whole picture, one of a compressed or smaller copy.

Counts add up over pictures and become one figure in the end, so that a picture with many objects weighs more than one
with none. Answers may be of different models and of pictures of different sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from skyfog_perception.decode.deeplab import Mask
from skyfog_perception.detector import Detected

Counts = npt.NDArray[np.int64]

LEAST_IOU = 0.5  # of two boxes that are of the same object
# Names in the label files of Darknet and VOC for what COCO calls otherwise.
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def _boxes(found: Sequence[Detected], height: int, width: int) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Class names [N], and boxes [N, 4] as parts of the picture."""
    names = [COCO_NAMES.get(one.class_name, one.class_name) for one in found]
    edges = np.array([(one.left, one.top, one.right, one.bottom) for one in found], np.float64).reshape(-1, 4)
    return names, edges / (width, height, width, height)


def count_detections(
    reference: Sequence[Detected], size: tuple[int, int], other: Sequence[Detected], other_size: tuple[int, int]
) -> Counts:
    """[3] pairs of the same class whose boxes overlap by LEAST_IOU, objects of the reference, objects of the other.

    Sizes are (height, width) of the pictures. Each object is in one pair at most; the best of `other` choose first.
    """
    names, boxes = _boxes(reference, *size)
    other_names, other_boxes = _boxes(other, *other_size)
    free = np.ones(len(names), bool)
    pairs = 0
    for name, box in zip(other_names, other_boxes, strict=True):
        same = free & np.array([one == name for one in names], bool)
        overlap = np.where(same, _iou(boxes, box), 0.0)
        if len(overlap) and overlap.max() >= LEAST_IOU:
            free[overlap.argmax()] = False
            pairs += 1
    return np.array([pairs, len(names), len(other_names)], np.int64)


def _iou(boxes: npt.NDArray[np.float64], box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[N, 4] against [4] -> [N]."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    both = np.prod(np.maximum(sides, 0.0), axis=1)
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2]) - both
    shared: npt.NDArray[np.float64] = both / np.maximum(whole, 1e-12)
    return shared


def f1(counts: Counts) -> float:
    """Of detections: 2 pairs / (objects of both), 0..1; one where neither saw anything."""
    pairs, reference, other = counts.tolist()
    return 2 * pairs / (reference + other) if reference + other else 1.0


def count_masks(reference: Mask, labels: Sequence[str], other: Mask, other_labels: Sequence[str]) -> Counts:
    """[2, labels] pixels that both give a class of the reference's `labels`, and that either does.

    The other mask is brought to the reference's size; its classes go by their names.
    """
    height, width = reference.shape
    resized: Any = cv2.resize(other, (width, height), interpolation=cv2.INTER_NEAREST)
    known = {COCO_NAMES.get(label, label): at for at, label in enumerate(labels)}
    nothing = len(labels)  # a class that the reference does not know
    of_reference = np.array([known.get(COCO_NAMES.get(label, label), nothing) for label in other_labels], np.int64)
    theirs = of_reference[resized]
    ours = reference.astype(np.int64)
    both = np.bincount(ours[ours == theirs], minlength=nothing)
    either = np.bincount(ours.ravel(), minlength=nothing) + np.bincount(theirs.ravel(), minlength=nothing)[:nothing]
    return np.stack([both, either - both])


def mean_iou(counts: Counts) -> float:
    """Of masks: the mean over the classes that either saw, 0..1; the background is one of them."""
    both, either = counts
    seen = either > 0
    return float(np.mean(both[seen] / either[seen])) if seen.any() else 1.0
