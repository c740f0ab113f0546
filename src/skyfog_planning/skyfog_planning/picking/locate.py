"""From segmented depth images to objects on the table. Pure: arrays in, objects out.

Every view adds the points of the pixels that the segmentation named. Points of one class that lie together are one
object, whatever view they came from; its footprint is the smallest rectangle around them as seen from above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from skyfog_core.poses import Pose

Points = npt.NDArray[np.float64]  # [N, 3], metres in the robot's base frame

EDGE_PIXELS = 1  # at the border of a mask depth is that of what lies behind


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera, pixels (sensor_msgs/CameraInfo.k)."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True, slots=True)
class Region:
    """An upright box, metres in the robot's base frame; objects are looked for inside."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def holds(self, points: Points) -> npt.NDArray[np.bool_]:
        """[N, 3] -> [N]: which points are inside."""
        inside: npt.NDArray[np.bool_] = np.all((points >= self.low) & (points <= self.high), axis=1)
        return inside


@dataclass(frozen=True, slots=True)
class Located:
    """One object. Its sides stand upright; `yaw` (rad, 0..pi) turns x of the base frame to its longer side."""

    class_name: str
    x: float  # centre of the footprint, metres
    y: float
    bottom: float
    top: float
    yaw: float
    length: float  # the longer side of the footprint, metres
    width: float
    points: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as an object."""

    voxel_m: float = 0.004
    gap_m: float = 0.012  # two clouds of a class nearer than this are one object
    min_points: int = 25  # voxels
    max_side_m: float = 0.15
    floor: float = 0.0  # height of the table: where objects stand


def deproject(depth: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], camera: Camera) -> Points:
    """[H, W] depth along the optical axis (m) and [H, W] mask -> [N, 3] in the camera's optical frame (z forward).

    Pixels at the mask's edge and those without a depth (0, inf, NaN) are left out.
    """
    assert depth.shape == mask.shape
    inner = ndimage.binary_erosion(mask, iterations=EDGE_PIXELS)
    rows, columns = np.nonzero(inner & np.isfinite(depth) & (depth > 0))
    z = depth[rows, columns].astype(np.float64)
    return np.stack([(columns - camera.cx) * z / camera.fx, (rows - camera.cy) * z / camera.fy, z], axis=1)


def move(points: Points, a_from_b: Pose) -> Points:
    """[N, 3] in frame b -> [N, 3] in frame a."""
    moved: Points = points @ a_from_b[:3, :3].T + a_from_b[:3, 3]
    return moved


def thin(points: Points, voxel_m: float) -> Points:
    """One point, the mean, for each occupied voxel."""
    if not len(points):
        return points
    keys, where = np.unique(np.floor(points / voxel_m).astype(np.int64), axis=0, return_inverse=True)
    where = where.reshape(-1)
    sums = np.zeros((len(keys), 3))
    np.add.at(sums, where, points)
    means: Points = sums / np.bincount(where)[:, None]
    return means


def clusters(points: Points, gap_m: float) -> list[Points]:
    """Groups of points of which each is within `gap_m` of another of its group, the largest first."""
    if not len(points):
        return []
    pairs = cKDTree(points).query_pairs(gap_m, output_type="ndarray")
    labels = _components(len(points), pairs)
    groups = [points[labels == label] for label in np.unique(labels)]
    return sorted(groups, key=len, reverse=True)


def _components(count: int, pairs: npt.NDArray[np.intp]) -> npt.NDArray[np.int32]:
    from scipy.sparse import coo_array  # noqa: PLC0415  # scipy.sparse takes 0.2 s to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    ones = np.ones(len(pairs), np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    labels: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return labels


def find_objects(clouds: Sequence[tuple[str, Points]], region: Region, limits: Limits) -> list[Located]:
    """Objects of all views' (class name, points in the base frame) inside `region`, the highest first."""
    found = []
    for name in sorted({name for name, _ in clouds}):
        points = np.concatenate([part for other, part in clouds if other == name])
        for group in clusters(thin(points[region.holds(points)], limits.voxel_m), limits.gap_m):
            if len(group) < limits.min_points:
                break  # the largest come first
            located = fit(name, group, limits.floor)
            if located.length <= limits.max_side_m:
                found.append(located)
    return sorted(found, key=lambda one: -one.top)


def fit(name: str, points: Points, floor: float) -> Located:
    """The upright box around points of one object; it stands on `floor`."""
    flat = points[:, :2].astype(np.float32)
    (x, y), (first, second), degrees = cv2.minAreaRect(flat)
    yaw = np.deg2rad(degrees)
    length, width = first, second
    if second > first:
        length, width, yaw = second, first, yaw + np.pi / 2
    top = float(np.quantile(points[:, 2], 0.98))
    return Located(name, float(x), float(y), floor, top, float(yaw % np.pi), float(length), float(width), len(points))
