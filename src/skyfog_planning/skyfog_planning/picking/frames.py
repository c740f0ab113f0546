"""Where things are: homogeneous transforms and the tree of frames that /tf describes.

A transform `a_from_b` is [4, 4] and takes points of frame b to frame a.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from skyfog_core.errors import SkyfogError

Transform = npt.NDArray[np.float64]  # [4, 4]

MAX_DEPTH = 64  # of a tree of frames; a longer chain is a loop


class UnknownFrame(SkyfogError):
    """Two frames are not joined by what was heard on /tf so far."""


def transform(position: Sequence[float], quaternion_xyzw: Sequence[float]) -> Transform:
    """A transform from ROS's translation (m) and rotation (x, y, z, w). Raises ValueError for a zero rotation."""
    x, y, z, w = (float(value) for value in quaternion_xyzw)
    norm = x * x + y * y + z * z + w * w
    if norm < 1e-12:
        raise ValueError(f"the quaternion {tuple(quaternion_xyzw)} is no rotation")
    s = 2.0 / norm
    made = np.eye(4)
    made[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    made[:3, 3] = position
    return made


def quaternion(rotation: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """[3, 3] -> (x, y, z, w), w >= 0; by the largest of the four components, so that nothing small is divided by."""
    r = rotation
    squares = np.array(
        [
            1 + r[0, 0] - r[1, 1] - r[2, 2],
            1 - r[0, 0] + r[1, 1] - r[2, 2],
            1 - r[0, 0] - r[1, 1] + r[2, 2],
            1 + r[0, 0] + r[1, 1] + r[2, 2],
        ]
    )
    rows = np.array(
        [
            [squares[0], r[1, 0] + r[0, 1], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
            [r[1, 0] + r[0, 1], squares[1], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
            [r[0, 2] + r[2, 0], r[2, 1] + r[1, 2], squares[2], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], squares[3]],
        ]
    )
    found = rows[int(squares.argmax())]
    found = found / np.linalg.norm(found)
    if found[3] < 0:
        found = -found
    x, y, z, w = found.tolist()
    return x, y, z, w


def invert(a_from_b: Transform) -> Transform:
    """b_from_a."""
    rotation = a_from_b[:3, :3].T
    made = np.eye(4)
    made[:3, :3] = rotation
    made[:3, 3] = -rotation @ a_from_b[:3, 3]
    return made


class FrameTree:
    """The newest transform of every frame to its parent, as /tf and /tf_static tell it."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, Transform]] = {}

    def heard(self, parent: str, child: str, parent_from_child: Transform) -> None:
        self._parents[child] = (parent, parent_from_child)

    def lookup(self, target: str, source: str) -> Transform:
        """target_from_source. Raises UnknownFrame that names the two and what is known."""
        up = dict(self._chain(target))
        for name, name_from_source in self._chain(source):
            if name in up:
                return invert(up[name]) @ name_from_source
        known = ", ".join(sorted({*self._parents, *(parent for parent, _ in self._parents.values())})) or "none"
        raise UnknownFrame(f"{source} and {target} are not joined on /tf (known frames: {known})")

    def _chain(self, frame: str) -> list[tuple[str, Transform]]:
        """(ancestor, ancestor_from_frame) from the frame itself up to its root."""
        chain = [(frame, np.eye(4))]
        while frame in self._parents:
            if len(chain) > MAX_DEPTH:
                raise UnknownFrame(f"/tf has a loop through {frame}")
            parent, parent_from_child = self._parents[frame]
            chain.append((parent, parent_from_child @ chain[-1][1]))
            frame = parent
        return chain
