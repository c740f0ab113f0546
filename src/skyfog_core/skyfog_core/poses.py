"""Poses as 4 by 4 matrices.

A pose is float64 [4, 4], metres, that takes a point of its own frame to the frame it is stated in: with `a` the pose of
A in the world and `b` that of B in A, `a @ b` is that of B in the world.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Pose = npt.NDArray[np.float64]  # [4, 4]
Quaternion = tuple[float, float, float, float]  # w, x, y, z
SMALL = 1e-12


def from_quaternion(position: Sequence[float], quaternion: Sequence[float]) -> Pose:
    """A pose from metres and w, x, y, z, of any length but zero. Raises ValueError for none."""
    w, x, y, z = (float(v) for v in quaternion)
    length = w * w + x * x + y * y + z * z
    if length < SMALL:
        raise ValueError(f"the quaternion {(w, x, y, z)} is no rotation")
    s = 2.0 / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
        [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)],
        [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)],
    ]
    pose[:3, 3] = position
    return pose


def quaternion(pose: Pose) -> Quaternion:
    """w, x, y, z of unit length with w >= 0 (Shepperd's method: divides by the largest component)."""
    r = pose[:3, :3]
    squares = (
        1 + r[0, 0] + r[1, 1] + r[2, 2],
        1 + r[0, 0] - r[1, 1] - r[2, 2],
        1 - r[0, 0] + r[1, 1] - r[2, 2],
        1 - r[0, 0] - r[1, 1] + r[2, 2],
    )
    largest = int(np.argmax(squares))
    a, b, c = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    d, e, f = r[1, 0] + r[0, 1], r[0, 2] + r[2, 0], r[2, 1] + r[1, 2]
    rows = ((squares[0], a, b, c), (a, squares[1], d, e), (b, d, squares[2], f), (c, e, f, squares[3]))
    q = np.array(rows[largest])
    q /= math.copysign(float(np.linalg.norm(q)), q[0])
    return float(q[0]), float(q[1]), float(q[2]), float(q[3])


def inverse(pose: Pose) -> Pose:
    """The pose of the stated-in frame, in the pose's own."""
    back = np.eye(4)
    back[:3, :3] = pose[:3, :3].T
    back[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return back
