"""Where an image lies in a model's input, and the way back from input pixels to its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skyfog_perception.manifest import InputSpec

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Placement:
    """An image of height x width pixels in a model's input."""

    height: int  # of the image
    width: int
    input_height: int
    input_width: int
    top: int  # of the image in the input, in the input's pixels; 0 where it is stretched over all of it
    left: int
    inner_height: int  # what the image takes of the input
    inner_width: int

    @property
    def per_pixel(self) -> tuple[float, float]:
        """Input pixels to one pixel of the image: (down, across)."""
        return (self.inner_height / self.height, self.inner_width / self.width)

    def to_image(self, boxes: Floats) -> Floats:
        """[N, 4] left, top, right, bottom in input pixels -> in pixels of the image, clipped to it."""
        down, across = self.per_pixel
        start = np.array([self.left, self.top, self.left, self.top], np.float64)
        edges = (boxes - start) / np.array([across, down, across, down])
        inside: Floats = np.clip(edges, 0.0, np.array([self.width, self.height] * 2, np.float64))
        return inside


def place(height: int, width: int, spec: InputSpec) -> Placement:
    """An image's place in the input of `spec`, by its `resize`."""
    if spec.resize == "stretch":
        return Placement(height, width, spec.height, spec.width, 0, 0, spec.height, spec.width)
    scale = min(spec.height / height, spec.width / width)
    # An image a thousand times longer than wide still takes a pixel.
    inner_height, inner_width = (max(1, round(side * scale)) for side in (height, width))
    top, left = (spec.height - inner_height) // 2, (spec.width - inner_width) // 2
    return Placement(height, width, spec.height, spec.width, top, left, inner_height, inner_width)
