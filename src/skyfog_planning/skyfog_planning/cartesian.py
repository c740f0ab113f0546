"""A straight line of the tool: poses between start and goal, each solved from the one before."""

from __future__ import annotations

import math

import numpy as np

from skyfog_planning.collision import Scene, collision
from skyfog_planning.ik import Solver
from skyfog_planning.problem import Array, Code, PlanError, PoseGoal

STEP_M = 0.005
STEP_RAD = 0.03
MAX_JUMP_RAD = 0.2  # of a joint in one step: more is another branch of the inverse kinematics


def straight(solver: Solver, scene: Scene, start: Array, goal: PoseGoal) -> Array:
    """[N, J] from `start` to the goal pose. Raises PlanError(CARTESIAN_BLOCKED) that says how far it went, and why."""
    begin = solver.pose(start)
    way = goal.pose[:3, 3] - begin[:3, 3]
    axis, angle = axis_angle(begin[:3, :3].T @ goal.pose[:3, :3])
    long = float(np.linalg.norm(way))
    steps = max(1, math.ceil(long / STEP_M), math.ceil(angle / STEP_RAD))
    path = [start]
    for i in range(1, steps + 1):
        pose = begin.copy()
        pose[:3, 3] += way * (i / steps)
        pose[:3, :3] = begin[:3, :3] @ rotation(axis, angle * i / steps)
        found = solver.solve(path[-1], pose)
        far = f"the straight line ends after {long * (i - 1) / steps:.3f} of {long:.3f} m"
        if found is None:
            raise PlanError(Code.CARTESIAN_BLOCKED, f"{far}: out of reach there")
        if np.abs(found - path[-1]).max() > MAX_JUMP_RAD:
            raise PlanError(Code.CARTESIAN_BLOCKED, f"{far}: the arm would have to turn over there")
        if not scene.valid(found):
            raise collision(Code.CARTESIAN_BLOCKED, far, scene.touching(found))
        path.append(found)
    return np.array(path)


def axis_angle(turn: Array) -> tuple[Array, float]:
    """3x3 -> unit axis and angle in [0, pi]."""
    skew = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sin = float(np.linalg.norm(skew))
    angle = math.atan2(sin, (float(np.trace(turn)) - 1) / 2)
    if sin > 1e-6:
        return skew / sin, angle
    if angle < 1.0:
        return np.array([1.0, 0.0, 0.0]), 0.0
    # Half a turn: the axis is the eigenvector of 1, the largest column of (R + I) / 2.
    columns = (turn + np.eye(3)) / 2
    best = columns[:, int(np.argmax(np.diag(columns)))]
    return best / float(np.linalg.norm(best)), angle


def rotation(axis: Array, angle: float) -> Array:
    """Rodrigues' formula, 3x3."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    made: Array = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
    return made
