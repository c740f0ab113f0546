"""Joint positions that put a link at a pose: damped least squares from many random starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pinocchio as pin

from skyfog_planning.collision import ArmModel
from skyfog_planning.problem import Array, PoseGoal

STEPS = 40
STALLED = 6  # steps without progress, after which an attempt is given up
PROGRESS = 0.98
DAMPING = 1e-2  # times the squared error: Levenberg-Marquardt, bold near the goal
LEAST_DAMPING = 1e-5
MAX_STEP_RAD = 0.8


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
        """The solution near `start` within half the tolerances and within limits, or None."""
        arm, target = self._arm, pin.SE3(pose)
        far, turned = self._goal.position_tolerance_m / 2, self._goal.orientation_tolerance_rad / 2
        positions = np.clip(start, self._lower, self._upper)
        best, stalled = np.inf, 0
        for _ in range(STEPS):
            self._q[arm.arm_index] = positions
            pin.computeJointJacobians(arm.model, arm.data, self._q)
            pin.updateFramePlacement(arm.model, arm.data, self._frame)
            error = pin.log6(arm.data.oMf[self._frame].actInv(target)).vector
            if np.linalg.norm(error[:3]) <= far and np.linalg.norm(error[3:]) <= turned:
                return positions
            size = float(np.linalg.norm(error))
            stalled = 0 if size < best * PROGRESS else stalled + 1
            best = min(best, size)
            if stalled >= STALLED:
                return None
            jacobian = pin.getFrameJacobian(arm.model, arm.data, self._frame, pin.LOCAL)[:, arm.arm_column]
            damping = (DAMPING * size**2 + LEAST_DAMPING) * np.eye(6)
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + damping, error)
            step *= min(1.0, MAX_STEP_RAD / max(float(np.abs(step).max()), 1e-9))
            positions = np.clip(positions + step, self._lower, self._upper)
        return None

    def solutions(self, first: Array, rng: np.random.Generator, tries: int) -> Iterator[Array | None]:
        """One attempt at a time: from `first`, then from random starts; None where an attempt ends nowhere."""
        yield self.solve(first, self._goal.pose)
        for _ in range(tries - 1):
            yield self.solve(rng.uniform(self._lower, self._upper), self._goal.pose)


def several(
    attempts: Iterator[Array | None],
    valid: Callable[[Array], bool],
    wanted: int,
    patience: int,
    out_of_time: Callable[[], bool],
) -> tuple[list[Array], list[Array]]:
    """Up to `wanted` valid solutions, each unlike the others, and those that touch something.

    With one in hand, `patience` attempts in all are enough.
    """
    good: list[Array] = []
    touching: list[Array] = []
    for number, found in enumerate(attempts, 1):
        if found is not None and not any(np.abs(found - other).max() < 0.05 for other in good):
            (good if valid(found) else touching).append(found)
        if len(good) >= wanted or (good and number >= patience) or out_of_time():
            break
    return good, touching
