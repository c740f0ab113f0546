"""A semantic head, as DeepLab's (arXiv 1706.05587): a logit per class on a grid over the input.

The class of a pixel is the one whose logit, bilinearly between the four grid points around the pixel, is greatest. To
resize every class's logits to the image's size first would take longer than a small network itself. It is not needed:

- where one class is greatest at all four points, it is greatest everywhere between them, since the weights are not
  negative; most pixels are settled so, by the grid alone;
- between the other points only a contender can be greatest: a class whose highest value at the four points is not below
  the lowest value there of another.

Only pixels between points that disagree are interpolated, and of these only the contenders: the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from skyfog_core.errors import ConfigError
from skyfog_perception.decode.boxes import Ids, Outputs, Shape, check_outputs
from skyfog_perception.heads import DeepLabSpec
from skyfog_perception.placement import Placement

Mask = npt.NDArray[np.uint8]  # [H, W], a class id per pixel
Logits = npt.NDArray[np.float32]  # [h, w, classes]

HALF = 0.5
OPEN = 255  # no class: to be interpolated
MAX_CLASSES = OPEN
AXES = 64  # sizes of images that are remembered: a camera has one
CHUNK = 1 << 16  # pixels interpolated at once


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the pixels of one side of the image lie between grid points."""

    low: Ids  # [N] the point before
    high: Ids  # [N] the point after; the last point has none and is its own
    part: npt.NDArray[np.float32]  # [N] of the way from low to high, 0..1
    pixel: Ids  # [points] the pixel in which each point lies; less than 0 or more than N - 1 outside the image

    @property
    def nearest(self) -> Ids:
        """[N] the nearest point."""
        return np.where(self.part < HALF, self.low, self.high)


@lru_cache(maxsize=AXES)
def axis(pixels: int, points: int, per_pixel: float, start: float, side: int) -> Axis:
    """`points` over an input of `side` pixels, in which the image begins at `start`; half-pixel centres, as OpenCV."""
    at = ((np.arange(pixels) + HALF) * per_pixel + start) * (points / side) - HALF
    at = np.clip(at, 0.0, points - 1.0)
    low = np.floor(at).astype(np.intp)
    pixel = np.floor(((np.arange(points) + HALF) * (side / points) - start) / per_pixel).astype(np.intp)
    made = Axis(low, np.minimum(low + 1, points - 1), (at - low).astype(np.float32), pixel)
    for array in (made.low, made.high, made.part, made.pixel):
        array.setflags(write=False)  # it is shared
    return made


@dataclass(frozen=True, slots=True)
class Semantic:
    """What a semantic head says of an image."""

    mask: Mask
    present: Ids  # the classes in the mask, ascending, and perhaps some that nearly were
    logits: Logits  # [h, w, classes] on the grid
    winner: Mask  # [h, w] the class that is greatest at each point
    rows: Axis  # where the pixels lie between the points
    columns: Axis


class DeepLab:
    """Decoder of a semantic head."""

    def __init__(self, spec: DeepLabSpec, classes: int, model: str) -> None:
        """`classes` counts the model's labels. Raises ConfigError for more than a mono8 mask can hold."""
        if classes > MAX_CLASSES:
            raise ConfigError(f"{model}: labels: {classes} classes; a mask of 8 bits holds at most {MAX_CLASSES}")
        self.outputs: tuple[str, ...] = (spec.logits,)
        self._spec = spec
        self._classes = classes
        self._model = model

    def check(self, shapes: Mapping[str, Shape]) -> None:
        nhwc = self._spec.layout == "nhwc"
        shape: Shape = (1, None, None, self._classes) if nhwc else (1, self._classes, None, None)
        check_outputs(self._model, {"logits": (self._spec.logits, shape)}, shapes, f"{self._classes} labels")

    def decode(self, outputs: Outputs, placement: Placement) -> Semantic:
        logits = outputs[0][0]
        if self._spec.layout == "nchw":
            logits = np.ascontiguousarray(logits.transpose(1, 2, 0))
        height, width, _ = logits.shape
        down, across = placement.per_pixel
        rows = axis(placement.height, height, down, placement.top, placement.input_height)
        columns = axis(placement.width, width, across, placement.left, placement.input_width)
        winner = logits.argmax(axis=2).astype(np.uint8)
        mask, present = label(logits, winner, rows, columns)
        return Semantic(mask, present, logits, winner, rows, columns)


def label(logits: Logits, winner: Mask, rows: Axis, columns: Axis) -> tuple[Mask, Ids]:
    """The class of each pixel, argmax of the interpolated logits, and the classes that there may be.

    `winner` is the argmax at the points.
    """
    present = np.flatnonzero(np.bincount(winner.reshape(-1)))
    right = np.concatenate([winner[:, 1:], winner[:, -1:]], axis=1)
    agreed = winner == right
    agreed &= np.concatenate([agreed[1:], agreed[-1:]])
    agreed &= winner == np.concatenate([winner[1:], winner[-1:]])
    settled = np.where(agreed, winner, np.uint8(OPEN))
    mask: Mask = settled.take(columns.low, axis=1).take(rows.low, axis=0)
    pixels = np.flatnonzero(mask == OPEN)
    if pixels.size:
        cells = np.flatnonzero(~agreed)
        around = corners(logits, cells)
        classes = contenders(around, cells, winner)
        present = np.union1d(present, classes)
        around = np.ascontiguousarray(around[:, :, classes])
        number = np.empty(winner.size, np.intp)
        number[cells] = np.arange(len(cells))
        for start in range(0, len(pixels), CHUNK):
            part = pixels[start : start + CHUNK]
            y, x = np.divmod(part, len(columns.low))
            cell = number.take(rows.low.take(y) * winner.shape[1] + columns.low.take(x))
            values = _between(around, cell, rows.part.take(y), columns.part.take(x))
            mask.reshape(-1)[part] = classes.take(values.argmax(axis=1))
    return mask, present


def corners(logits: Logits, cells: Ids) -> npt.NDArray[np.float32]:
    """[4, N, classes]: the logits around cells, flat indices of their first points; across, then down."""
    height, width, classes = logits.shape
    y, x = np.divmod(cells, width)
    y_next, x_next = np.minimum(y + 1, height - 1), np.minimum(x + 1, width - 1)
    points = np.stack([y * width + x, y * width + x_next, y_next * width + x, y_next * width + x_next])
    return logits.reshape(-1, classes).take(points, axis=0)


def contenders(around: npt.NDArray[np.float32], cells: Ids, winner: Mask) -> Ids:
    """The classes that can be greatest between the points of one of `cells`, by [4, N, classes] logits around them.

    What a class has at least at the four points, it has between them. The class that wins at a cell's first point is
    taken for that bound; any would do.
    """
    first = winner.reshape(-1).take(cells).astype(np.intp)
    surely = around[:, np.arange(len(cells)), first].min(axis=0)
    return np.flatnonzero((around.max(axis=0) >= surely[:, None]).any(axis=0))


def _between(
    around: npt.NDArray[np.float32], cell: Ids, down: npt.NDArray[np.float32], across: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """[N, classes]: bilinear inside cells, along the rows first, as OpenCV; `down` and `across` are parts of a cell."""

    def along(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        here = left.take(cell, axis=0)
        mixed: npt.NDArray[np.float32] = here + (right.take(cell, axis=0) - here) * across[:, None]
        return mixed

    upper, lower = along(around[0], around[1]), along(around[2], around[3])
    mixed: npt.NDArray[np.float32] = upper + (lower - upper) * down[:, None]
    return mixed
