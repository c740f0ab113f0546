"""From a class per pixel to things: each connected region of a class, with its score, box and area. Pure.

A region's score is the mean probability of its class (softmax over the classes) at the grid points that lie in it: of
large regions at some of them, evenly spread. A region between the points is scored at the points nearest to its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from skyfog_perception.decode.boxes import Ids
from skyfog_perception.decode.deeplab import Mask, Semantic

BACKGROUND = 0
CONNECTIVITY = 8  # pixels that touch at a corner belong together
SAMPLES = 1_024  # about as many points of a class are looked at: the mean of so many is known to a percent
FEW = 12  # regions of a class

Labels = npt.NDArray[np.int32]  # [h, w]
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Regions:
    """By falling score. The mask is of these regions and nothing else."""

    mask: Mask  # [H, W]
    class_ids: Ids  # [N]
    scores: Reals  # [N], 0..1
    boxes: Ids  # [N, 4] = left, top, right, bottom in pixels; right and bottom are outside
    areas: Ids  # [N] pixels


@dataclass(frozen=True, slots=True)
class _OfClass:
    """The regions of one class."""

    class_id: int
    scores: Reals
    boxes: Ids
    areas: Ids
    member: Mask  # [h, w] 1 where the mask has this class, within the box of the class
    left: int  # of that box
    top: int

    def draw(self, mask: Mask, kept: npt.NDArray[np.bool_]) -> None:
        """Write the class into `mask` where its `kept` regions are."""
        height, width = self.member.shape
        window = mask[self.top : self.top + height, self.left : self.left + width]
        if kept.all():
            np.copyto(window, self.class_id, where=self.member.view(bool))
        elif kept.any():
            # Labelled again rather than kept: labels take four bytes a pixel and class.
            labels, _ = _label(self.member)
            np.copyto(window, self.class_id, where=np.concatenate([[False], kept])[labels])


def find_regions(seen: Semantic, threshold: float, classes: Ids, limit: int) -> Regions:
    """At most `limit` regions of `classes` with a score of at least `threshold`; class 0 is no thing."""
    things = seen.present[seen.present != BACKGROUND]
    wanted = np.isin(things, classes)
    parts = [part for class_id in things[wanted] if (part := _of_class(seen, int(class_id))) is not None]
    ids = np.concatenate([np.empty(0, np.intp), *(np.full(len(part.areas), part.class_id) for part in parts)])
    scores = np.concatenate([np.empty(0), *(part.scores for part in parts)])
    boxes = np.concatenate([np.empty((0, 4), np.intp), *(part.boxes for part in parts)])
    areas = np.concatenate([np.empty(0, np.intp), *(part.areas for part in parts)])
    order = np.argsort(-scores, kind="stable")[:limit]
    order = order[scores[order] >= np.float32(threshold)]
    if len(order) == len(scores) and wanted.all():
        mask = seen.mask
    else:
        mask = _drawn(parts, order, seen.mask.shape)
    return Regions(mask, ids[order], scores[order], boxes[order], areas[order])


def _drawn(parts: list[_OfClass], order: Ids, shape: tuple[int, ...]) -> Mask:
    """The mask of some regions, by their places in the row of all parts' regions."""
    mask = np.zeros(shape, np.uint8)
    kept = np.zeros(sum(len(part.areas) for part in parts), bool)
    kept[order] = True
    at = 0
    for part in parts:
        part.draw(mask, kept[at : at + len(part.areas)])
        at += len(part.areas)
    return mask


def _of_class(seen: Semantic, class_id: int) -> _OfClass | None:
    """None where no pixel is of this class."""
    whole = (seen.mask == class_id).view(np.uint8)
    left, top, width, height = cv2.boundingRect(whole)
    if not width:
        return None
    member = whole[top : top + height, left : left + width]
    labels, table = _label(member)
    boxes, areas = _few(member, labels) if table is None else _many(table)
    scores = _scores(seen, class_id, labels, boxes, (left, top))
    return _OfClass(class_id, scores, boxes + np.array([left, top, left, top]), areas, member, left, top)


def _label(member: Mask) -> tuple[Labels, npt.NDArray[np.int32] | None]:
    """The number of each pixel's region, 0 where it is of none; of more than a few also OpenCV's statistics."""
    count, labels = cv2.connectedComponents(member, connectivity=CONNECTIVITY, ltype=cv2.CV_32S)
    if count - 1 <= FEW:
        return np.asarray(labels, np.int32), None
    _, labels, table, _ = cv2.connectedComponentsWithStats(member, connectivity=CONNECTIVITY, ltype=cv2.CV_32S)
    return np.asarray(labels, np.int32), np.asarray(table, np.int32)


def _many(table: npt.NDArray[np.int32]) -> tuple[Ids, Ids]:
    """[N, 4] boxes and [N] areas of all regions, by label, from OpenCV's statistics."""
    stats = table[1:].astype(np.intp)
    low = stats[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]]
    boxes = np.concatenate([low, low + stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]], axis=1)
    return boxes, stats[:, cv2.CC_STAT_AREA]


def _few(member: Mask, labels: Labels) -> tuple[Ids, Ids]:
    """The same from outlines, which touch few pixels, where statistics touch all."""
    outlines, levels = cv2.findContours(member, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = [outline for outline, level in zip(outlines, levels[0], strict=True) if level[3] < 0]  # the rest are holes
    boxes, areas = np.empty((len(outer), 4), np.intp), np.zeros(len(outer), np.intp)
    for outline in outer:
        x, y = outline[0, 0]
        left, top, width, height = cv2.boundingRect(outline)
        boxes[labels[y, x] - 1] = left, top, left + width, top + height
    largest = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).argmax()
    for i in range(len(boxes)):
        if i != largest:
            areas[i] = np.count_nonzero(_window(labels, boxes[i]) == i + 1)
    areas[largest] = cv2.countNonZero(member) - areas.sum()
    return boxes, areas


def _window(labels: Labels, box: Ids) -> Labels:
    left, top, right, bottom = box
    return labels[top:bottom, left:right]


def _scores(seen: Semantic, class_id: int, labels: Labels, boxes: Ids, corner: tuple[int, int]) -> Reals:
    """[N] of the regions of `labels`, a window of the mask that begins at left and top, with their [N, 4] boxes."""
    left, top = corner
    points = np.flatnonzero(seen.winner == class_id)
    points = points[:: max(1, len(points) // SAMPLES)]
    y, x = np.divmod(points, seen.winner.shape[1])
    y, x = seen.rows.pixel[y] - top, seen.columns.pixel[x] - left
    inside = (y >= 0) & (y < labels.shape[0]) & (x >= 0) & (x < labels.shape[1])
    count = len(boxes) + 1
    hits, sums = _tally(labels[y[inside], x[inside]], probability(seen, class_id, points[inside]), count)
    missed = np.flatnonzero(hits[1:] == 0) + 1
    if missed.size:
        y, x = _pixels(missed, labels, boxes)
        points = seen.rows.nearest[y + top] * seen.winner.shape[1] + seen.columns.nearest[x + left]
        more_hits, more = _tally(labels[y, x], probability(seen, class_id, points), count)
        hits, sums = hits + more_hits, sums + more
    mean: Reals = np.clip(sums[1:] / hits[1:], 0.0, 1.0)
    return mean


def _pixels(of: Ids, labels: Labels, boxes: Ids) -> tuple[Ids, Ids]:
    """[P] rows and [P] columns of the pixels of some regions."""
    if len(of) > FEW:
        chosen = np.zeros(len(boxes) + 1, bool)
        chosen[of] = True
        y, x = np.nonzero(chosen[labels])
        return y, x
    found = [np.argwhere(_window(labels, boxes[label - 1]) == label) + boxes[label - 1, [1, 0]] for label in of]
    y, x = np.concatenate(found).T
    return y, x


def _tally(region: npt.NDArray[np.int32], values: npt.NDArray[np.float32], count: int) -> tuple[Reals, Reals]:
    """[count] how many values each region has, and their sums."""
    sums: Reals = np.bincount(region, values, minlength=count).astype(np.float64)
    return np.bincount(region, minlength=count).astype(np.float64), sums


def probability(seen: Semantic, class_id: int, points: Ids) -> npt.NDArray[np.float32]:
    """[N] softmax of a class at flat indices of grid points."""
    classes = seen.logits.shape[2]
    logits = seen.logits.reshape(-1, classes).take(points, axis=0)
    top = seen.logits.reshape(-1).take(points * classes + seen.winner.reshape(-1).take(points))
    mine = logits[:, class_id] - top
    logits -= top[:, None]
    np.exp(logits, out=logits)
    # A product with ones: numpy's own sum over so short an axis takes ten times as long.
    chance: npt.NDArray[np.float32] = np.exp(mine) / (logits @ np.ones(classes, np.float32))
    return chance
