"""Shortcuts: a piece of the path becomes a straight line where nothing is in the way. Never longer than before."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from skyfog_planning.problem import Array, path_length

MIN_GAIN_RAD = 1e-6


def shortcut(
    path: Array,
    free: Callable[[Array, Array], bool],
    rng: np.random.Generator,
    tries: int,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Array:
    """[N, J] -> [M, J] with the same ends; `free(a, b)` says whether a straight line may be taken.

    Two random points of the path by its length, as in Geraerts and Overmars 2007, section III-A.
    """
    for _ in range(tries):
        if len(path) <= 2 or out_of_time():
            break
        reach = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        first, second = np.sort(rng.uniform(0.0, reach[-1], 2))
        i, a = _at(path, reach, first)
        j, b = _at(path, reach, second)
        if i == j or second - first - float(np.linalg.norm(b - a)) < MIN_GAIN_RAD:
            continue
        if free(a, b):
            path = np.vstack([path[: i + 1], a, b, path[j + 1 :]])
            path = distinct(path)
    return path


def _at(path: Array, reach: Array, where: float) -> tuple[int, Array]:
    """The segment at a length along the path, and the point there."""
    i = int(np.clip(np.searchsorted(reach, where, side="right") - 1, 0, len(path) - 2))
    long = reach[i + 1] - reach[i]
    share = (where - reach[i]) / long if long > 0 else 0.0
    point: Array = path[i] + share * (path[i + 1] - path[i])
    return i, point


def distinct(path: Array) -> Array:
    """Drop way-points that stand where the one before stands; the ends stay as they are."""
    apart = np.linalg.norm(np.diff(path, axis=0), axis=1) > 1e-9
    keep = np.concatenate([[True], apart])
    if not keep[-1]:
        keep[-1] = True
        before = np.flatnonzero(keep[:-1])
        if len(before) > 1:
            keep[before[-1]] = False
    kept: Array = path[keep]
    return kept


def dense(path: Array, step_rad: float) -> Array:
    """The same path with way-points at most `step_rad` apart."""
    pieces = [path[:1]]
    for a, b in itertools.pairwise(path):
        count = max(1, int(np.ceil(np.linalg.norm(b - a) / step_rad)))
        pieces.append(a + (b - a) * (np.arange(1, count + 1) / count)[:, None])
    made = np.vstack(pieces)
    assert path_length(made) <= path_length(path) + 1e-6
    return made
