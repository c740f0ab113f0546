"""A semantic head, as DeepLab's (arXiv 1706.05587): a logit per class on a grid over the input.

The class of a pixel is the one whose logit, bilinearly between the four grid points around the pixel, is greatest. To
resize every class's logits to the image's size first would take longer than a small network itself. It is not needed:

- where one class is greatest at all four points, it is greatest everywhere between them, since the weights are not
  negative; most pixels are settled so, by the grid alone;
- between the other points only a contender can be greatest: a class whose highest value at the four points is not below
  the highest of the classes' lowest values there.

Only pixels between points that disagree are interpolated, and of these only the contenders: the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skyfog_core.errors import ConfigError
from skyfog_perception.decode.boxes import Ids, Outputs, Shape, check_outputs
from skyfog_perception.heads import DeepLabSpec
from skyfog_perception.placement import Placement

Mask = npt.NDArray[np.uint8]  # [H, W], a class id per pixel
Logits = npt.NDArray[np.float32]  # [h, w, classes]

OPEN = 255  # no class: to be interpolated
MAX_CLASSES = OPEN
CHUNK = 1 << 16  # pixels interpolated at once


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the pixels of one side of the image lie between grid points."""

    low: Ids  # [N] the point before
    high: Ids  # [N] the point after; the last point has none and is its own
    part: npt.NDArray[np.float32]  # [N] of the way from low to high, 0..1

    @property
    def nearest(self) -> Ids:
        """[N] the nearest point."""
        return np.where(self.part < 0.5, self.low, self.high)


def axis(pixels: int, points: int, per_pixel: float, start: float, side: int) -> Axis:
    """`points` over an input of `side` pixels, in which the image begins at `start`; half-pixel centres, as OpenCV."""
    at = ((np.arange(pixels) + 0.5) * per_pixel + start) * (points / side) - 0.5
    at = np.clip(at, 0.0, points - 1.0)
    low = np.floor(at).astype(np.intp)
    return Axis(low, np.minimum(low + 1, points - 1), (at - low).astype(np.float32))


@dataclass(frozen=True, slots=True)
class Semantic:
    """What a semantic head says of an image."""

    mask: Mask
    logits: Logits  # on the grid
    rows: Ids  # [H] the nearest grid row of each pixel row
    columns: Ids  # [W]


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
        return Semantic(label(logits, rows, columns), logits, rows.nearest, columns.nearest)


def label(logits: Logits, rows: Axis, columns: Axis) -> Mask:
    """The class of each pixel: argmax of the interpolated logits."""
    winner = logits.argmax(axis=2).astype(np.uint8)
    right, below = np.minimum(np.arange(1, winner.shape[1] + 1), winner.shape[1] - 1), winner[1:]
    below = np.concatenate([below, winner[-1:]])
    agreed = (winner == winner[:, right]) & (winner == below) & (winner == below[:, right])
    settled = np.where(agreed, winner, np.uint8(OPEN))
    mask: Mask = np.ascontiguousarray(settled[rows.low][:, columns.low])
    pixels = np.flatnonzero(mask == OPEN)
    if pixels.size:
        classes = contenders(logits, np.flatnonzero(~agreed))
        values = np.ascontiguousarray(logits[:, :, classes])
        for start in range(0, len(pixels), CHUNK):
            part = pixels[start : start + CHUNK]
            mask.flat[part] = classes[_between(values, rows, columns, part).argmax(axis=1)]
    return mask


def contenders(logits: Logits, cells: Ids) -> Ids:
    """The classes that can be greatest between the points of one of `cells`, flat indices of their first points."""
    height, width, _ = logits.shape
    y, x = np.divmod(cells, width)
    y_next, x_next = np.minimum(y + 1, height - 1), np.minimum(x + 1, width - 1)
    around = np.stack([logits[y, x], logits[y, x_next], logits[y_next, x], logits[y_next, x_next]])
    surely = around.min(axis=0).max(axis=1, keepdims=True)
    return np.flatnonzero((around.max(axis=0) >= surely).any(axis=0))


def _between(values: Logits, rows: Axis, columns: Axis, pixels: Ids) -> npt.NDArray[np.float32]:
    """[N, classes]: bilinear at flat indices of pixels, along the columns first, as OpenCV."""
    flat = values.reshape(-1, values.shape[2])
    y, x = np.divmod(pixels, len(columns.low))
    left, right, across = columns.low[x], columns.high[x], columns.part[x, None]

    def along(row: Ids) -> npt.NDArray[np.float32]:
        first = row * values.shape[1]
        here, there = flat[first + left], flat[first + right]
        mixed: npt.NDArray[np.float32] = here + (there - here) * across
        return mixed

    upper, lower = along(rows.low[y]), along(rows.high[y])
    mixed: npt.NDArray[np.float32] = upper + (lower - upper) * rows.part[y, None]
    return mixed
