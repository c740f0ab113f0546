"""From a class per pixel to things: each connected region of a class, with its score, box and area. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from skyfog_perception.decode.boxes import Ids
from skyfog_perception.decode.deeplab import Mask, Semantic

BACKGROUND = 0
CONNECTIVITY = 8  # pixels that touch at a corner belong together


@dataclass(frozen=True, slots=True)
class Regions:
    """By falling score. The mask is of these regions and nothing else."""

    mask: Mask  # [H, W]
    class_ids: Ids  # [N]
    scores: npt.NDArray[np.float64]  # [N], 0..1
    boxes: npt.NDArray[np.intp]  # [N, 4] = left, top, right, bottom in pixels; right and bottom are outside
    areas: npt.NDArray[np.intp]  # [N] pixels


def find_regions(seen: Semantic, threshold: float, classes: Ids, limit: int) -> Regions:
    """At most `limit` regions of `classes` with a score of at least `threshold`; class 0 is no thing.

    A region's score is the mean, over its pixels, of its class's probability at the nearest point of the grid.
    """
    wanted = np.zeros(256, bool)
    wanted[classes] = True
    wanted[BACKGROUND] = False
    present = np.flatnonzero((np.bincount(seen.mask.ravel(), minlength=256) > 0) & wanted)
    chance = Probabilities(seen)
    parts = [_of_class(seen.mask, int(class_id), chance) for class_id in present]
    ids = np.concatenate([np.empty(0, np.intp), *(np.full(len(part.areas), part.class_id) for part in parts)])
    scores = np.concatenate([np.empty(0), *(part.scores for part in parts)])
    order = np.argsort(-scores, kind="stable")[:limit]
    order = order[scores[order] >= np.float32(threshold)]
    kept = np.zeros(len(scores), bool)
    kept[order] = True
    mask, at = np.zeros_like(seen.mask), 0
    for part in parts:
        part.draw(mask, kept[at : at + len(part.areas)])
        at += len(part.areas)
    boxes = np.concatenate([np.empty((0, 4), np.intp), *(part.boxes for part in parts)])
    areas = np.concatenate([np.empty(0, np.intp), *(part.areas for part in parts)])
    return Regions(mask, ids[order], np.clip(scores[order], 0.0, 1.0), boxes[order], areas[order])


class Probabilities:
    """Softmax over the classes on the grid, worked out for a class when it is asked for."""

    def __init__(self, seen: Semantic) -> None:
        self._seen = seen
        flat = seen.logits.reshape(-1, seen.logits.shape[2])
        self._top = np.take_along_axis(flat, flat.argmax(axis=1)[:, None], axis=1)
        # A product with ones: numpy's own sum over so short an axis takes ten times as long.
        self._sum = np.exp(flat - self._top) @ np.ones(flat.shape[1], np.float32)

    def of(self, class_id: int, left: int, top: int, right: int, bottom: int) -> npt.NDArray[np.float32]:
        """[bottom - top, right - left]: a class's probability at the pixels of a box."""
        height, width, _ = self._seen.logits.shape
        grid = np.exp(self._seen.logits[:, :, class_id].ravel() - self._top[:, 0]) / self._sum
        near: npt.NDArray[np.float32] = grid.reshape(height, width)[self._seen.rows[top:bottom]]
        return near[:, self._seen.columns[left:right]]


@dataclass(frozen=True, slots=True)
class _OfClass:
    """The regions of one class."""

    class_id: int
    scores: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.intp]
    areas: npt.NDArray[np.intp]
    member: Mask  # [h, w] 1 where the mask has this class, within the box of the class
    left: int  # of that box
    top: int

    def draw(self, mask: Mask, kept: npt.NDArray[np.bool_]) -> None:
        """Write the class into `mask` where its `kept` regions are."""
        height, width = self.member.shape
        window = mask[self.top : self.top + height, self.left : self.left + width]
        if kept.all():
            window[self.member > 0] = self.class_id
        elif kept.any():
            # Labelled again rather than kept: labels take four bytes a pixel and class.
            labels = cv2.connectedComponents(self.member, connectivity=CONNECTIVITY, ltype=cv2.CV_32S)[1]
            window[np.concatenate([[False], kept])[labels]] = self.class_id


def _of_class(mask: Mask, class_id: int, chance: Probabilities) -> _OfClass:
    whole = (mask == class_id).view(np.uint8)
    left, top, width, height = cv2.boundingRect(whole)
    member = whole[top : top + height, left : left + width]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(member, connectivity=CONNECTIVITY, ltype=cv2.CV_32S)
    stats = stats[1:].astype(np.intp)  # label 0 is what is not of the class
    areas = stats[:, cv2.CC_STAT_AREA]
    weights = chance.of(class_id, left, top, left + width, top + height)
    sums = np.bincount(labels.ravel(), weights.ravel(), minlength=len(areas) + 1)[1:]
    low = stats[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
    boxes = np.concatenate([low, low + stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]], axis=1)
    return _OfClass(class_id, sums / areas, boxes + np.array([left, top, left, top]), areas, member, left, top)
