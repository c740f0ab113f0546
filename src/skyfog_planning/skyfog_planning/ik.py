"""Joint positions that put a link at a pose: damped least squares from many random starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pinocchio as pin

from skyfog_planning.collision import ArmModel
from skyfog_planning.problem import Array, PoseGoal

STEPS = 60
DAMPING = 1e-4
STEP_GAIN = 0.7
MAX_STEP_RAD = 0.5


class Solver:
    """Inverse kinematics of one link of an arm."""

    def __init__(self, arm: ArmModel, others: dict[str, float], goal: PoseGoal) -> None:
        """Raises PlanError(INVALID) for a link that the robot lacks."""
        self._arm = arm
        self._goal = goal
        self._frame = arm.frame_id(goal.link)
        self._q = arm.full(others)
        self._lower, self._upper = arm.robot.lower, arm.robot.upper

    def pose(self, positions: Array) -> Array:
        """Where the link is, 4x4."""
        self._q[self._arm.arm_index] = positions
        pin.framesForwardKinematics(self._arm.model, self._arm.data, self._q)
        return np.array(self._arm.data.oMf[self._frame].homogeneous)

    def solve(self, start: Array, pose: Array) -> Array | None:
        """The solution near `start` within tolerance and limits, or None."""
        arm, target = self._arm, pin.SE3(pose)
        positions = np.clip(start, self._lower, self._upper)
        for _ in range(STEPS):
            self._q[arm.arm_index] = positions
            pin.framesForwardKinematics(arm.model, arm.data, self._q)
            error = pin.log6(arm.data.oMf[self._frame].actInv(target)).vector
            # The tolerance's half is left for what moves a goal afterwards.
            far, turned = np.linalg.norm(error[:3]), np.linalg.norm(error[3:])
            if far <= self._goal.position_tolerance_m / 2 and turned <= self._goal.orientation_tolerance_rad / 2:
                return positions
            jacobian = pin.computeFrameJacobian(arm.model, arm.data, self._q, self._frame, pin.LOCAL)
            jacobian = jacobian[:, arm.arm_column]
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING * np.eye(6), error)
            step *= STEP_GAIN * min(1.0, MAX_STEP_RAD / max(float(np.abs(step).max()), 1e-9))
            positions = np.clip(positions + step, self._lower, self._upper)
        return None

    def solutions(self, first: Array, rng: np.random.Generator, tries: int) -> Iterator[Array | None]:
        """One attempt at a time: from `first`, then from random starts; None where an attempt ends nowhere."""
        yield self.solve(first, self._goal.pose)
        for _ in range(tries - 1):
            yield self.solve(rng.uniform(self._lower, self._upper), self._goal.pose)


def several(
    attempts: Iterator[Array | None], valid: Callable[[Array], bool], wanted: int, out_of_time: Callable[[], bool]
) -> tuple[list[Array], list[Array]]:
    """Up to `wanted` valid solutions, each unlike the others, and those that touch something."""
    good: list[Array] = []
    touching: list[Array] = []
    for found in attempts:
        if found is not None and not any(np.abs(found - other).max() < 0.05 for other in good):
            (good if valid(found) else touching).append(found)
        if len(good) >= wanted or out_of_time():
            break
    return good, touching
