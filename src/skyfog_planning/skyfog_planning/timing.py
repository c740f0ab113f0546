"""When the arm is where: TOPP-RA over a spline through the path, or straight lines that stop at every corner.

TOPP-RA holds the limits at its grid points only. The result is therefore sampled finely and stretched in time by as
much as the worst sample is over a limit, so that none is.
"""

from __future__ import annotations

import itertools
import logging

import numpy as np
import toppra
from toppra import algorithm, constraint

from skyfog_planning.problem import Array, Trajectory
from skyfog_planning.smooth import dense, distinct

STEP_S = 0.02  # between way-points of a trajectory
FINE = 4  # samples a way-point, when limits are held
KEEP = 0.999  # of the limits: what rounding may take

logging.getLogger("toppra").setLevel(logging.ERROR)  # it reports every phase


def spline(joints: tuple[str, ...], path: Array, velocity: Array, acceleration: Array, step_rad: float) -> Trajectory:
    """[N, J] way-points -> the fastest way along a cubic spline through points `step_rad` apart.

    Limits in rad/s and rad/s^2. The smaller `step_rad`, the nearer the spline stays to the path, and the slower it is.
    Raises ValueError where TOPP-RA finds no solution.
    """
    points = dense(distinct(path), step_rad)
    reach = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    curve = toppra.SplineInterpolator(reach, points)
    limits = [
        constraint.JointVelocityConstraint(np.stack([-velocity, velocity], axis=1) * KEEP),
        constraint.JointAccelerationConstraint(np.stack([-acceleration, acceleration], axis=1) * KEEP),
    ]
    grid = np.unique(np.concatenate([reach, np.linspace(0, reach[-1], 4 * len(reach))]))
    solved = algorithm.TOPPRA(limits, curve, gridpoints=grid, parametrizer="ParametrizeConstAccel").compute_trajectory()
    if solved is None:
        raise ValueError("TOPP-RA found no timing")
    duration = float(solved.duration)
    count = max(2, int(np.ceil(duration / STEP_S)) + 1)
    fine = np.linspace(0.0, duration, (count - 1) * FINE + 1)
    q, v, a = solved(fine), solved(fine, 1), solved(fine, 2)
    return _held(joints, fine, q, v, a, velocity, acceleration)


def corners(joints: tuple[str, ...], path: Array, velocity: Array, acceleration: Array) -> Trajectory:
    """[N, J] way-points -> along exactly these straight lines, at rest in every corner; trapezoids of speed."""
    zero = np.zeros_like(path[:1])
    times, q, v, a, now = [np.zeros(1)], [path[:1]], [zero], [zero], 0.0
    for begin, end in itertools.pairwise(path):
        way = end - begin
        moving = np.abs(way) > 1e-12
        if not moving.any():
            continue
        top = float((velocity[moving] / np.abs(way[moving])).min()) * KEEP  # of the share of the way, 1/s
        gain = float((acceleration[moving] / np.abs(way[moving])).min()) * KEEP
        top = min(top, np.sqrt(gain))  # a short way has no cruise
        duration = top / gain + 1.0 / top
        steps = max(2, int(np.ceil(duration / STEP_S)) * FINE)
        at = np.linspace(0.0, duration, steps + 1)[1:]
        up, down = at < top / gain, at > duration - top / gain
        left = duration - at
        share = np.where(up, gain * at**2 / 2, np.where(down, 1 - gain * left**2 / 2, top * (at - top / gain / 2)))
        speed = np.where(up, gain * at, np.where(down, gain * left, top))
        push = np.where(up, gain, np.where(down, -gain, 0.0))
        q.append(begin + share[:, None] * way)
        v.append(speed[:, None] * way)
        a.append(push[:, None] * way)
        times.append(now + at)
        now += duration
    joined = [np.concatenate(one) for one in (q, v, a)]
    return _held(joints, np.concatenate(times), joined[0], joined[1], joined[2], velocity, acceleration)


def still(joints: tuple[str, ...], positions: Array) -> Trajectory:
    """Start and goal are one: two way-points at rest."""
    zero = np.zeros((2, len(positions)))
    return Trajectory(joints, np.array([0.0, STEP_S]), np.stack([positions, positions]), zero, zero.copy())


def _held(
    joints: tuple[str, ...], fine: Array, q: Array, v: Array, a: Array, velocity: Array, acceleration: Array
) -> Trajectory:
    """Stretch time until every sample is within limits; at rest at both ends; every FINE-th sample is kept."""
    v[0] = v[-1] = 0.0
    over = max(float((np.abs(v) / velocity).max()), float(np.sqrt((np.abs(a) / acceleration).max())))
    slower = max(1.0, over)
    if slower > 1.0:
        slower *= 1 + 1e-9
    keep = np.unique(
        np.append(np.arange(0, len(fine), FINE if slower == 1.0 else max(1, int(FINE / slower))), len(fine) - 1)
    )
    return Trajectory(joints, fine[keep] * slower, q[keep], v[keep] / slower, a[keep] / slower**2)
