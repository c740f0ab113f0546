"""The tree of named frames in which SDF states poses, and poses as SDF writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skyfog_core.poses import Pose

Vector = npt.NDArray[np.float64]  # [3]

# From x forward, z up, as in SDF, to z forward, y down, as ROS has the axes of a camera's image.
OPTICAL: Pose = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
SMALL = 1e-12


def from_rpy(x: float, y: float, z: float, roll: float, pitch: float, yaw: float) -> Pose:
    """A pose from metres and fixed-axis angles in radians, in SDF's order: R = Rz(yaw) Ry(pitch) Rx(roll)."""
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    pose = np.eye(4)
    pose[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    pose[:3, 3] = (x, y, z)
    return pose


def yaw_of(pose: Pose) -> float:
    """The angle about z, in radians."""
    return math.atan2(pose[1, 0], pose[0, 0])


def z_onto(normal: Sequence[float]) -> Pose:
    """A rotation that takes the z axis to `normal`. Raises ValueError for a normal without length."""
    target = np.asarray(normal, float)
    length = float(np.linalg.norm(target))
    if length < SMALL:
        raise ValueError("a normal needs a length")
    target = target / length
    helper = np.array([1.0, 0, 0]) if abs(target[0]) < 0.9 else np.array([0.0, 1, 0])
    second = np.cross(target, helper)
    second /= np.linalg.norm(second)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack((np.cross(second, target), second, target))
    return pose


@dataclass(frozen=True, slots=True)
class _Stated:
    relative_to: str
    pose: Pose


class FrameError(Exception):
    """A frame that is not there, or that is stated by way of itself."""


class FrameTree:
    """Frames of one scope, each stated in another; `root` is the one that needs none."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._stated: dict[str, _Stated] = {}

    def __contains__(self, name: str) -> bool:
        return name == self.root or name in self._stated

    def names(self) -> list[str]:
        return [self.root, *self._stated]

    def state(self, name: str, relative_to: str, pose: Pose) -> None:
        """Add a frame. Raises FrameError where the name is taken."""
        if name in self:
            raise FrameError(f"two frames are called {name!r}")
        self._stated[name] = _Stated(relative_to, pose)

    def pose(self, name: str) -> Pose:
        """In the root. Raises FrameError where the chain leads nowhere or back to itself."""
        chain: list[str] = []
        found = np.eye(4)
        while name != self.root:
            if name in chain:
                raise FrameError(f"the frames {' -> '.join([*chain, name])} are stated in a circle")
            if name not in self._stated:
                raise FrameError(f"there is no frame {name!r} (there are: {', '.join(self.names())})")
            chain.append(name)
            found = self._stated[name].pose @ found
            name = self._stated[name].relative_to
        return found
