"""The problem sets in the package: scenes of boxes, and start and goal configurations in them.

They are stored, so that tests and benchmarks of every version ask the same. `problem_maker.py` makes them again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skyfog_core.config.base import nearest
from skyfog_core.errors import ConfigError
from skyfog_planning.problem import Array, Body, Box, JointGoal, Problem, translation
from skyfog_planning.robots import read_robot, shared

SETS = ("table", "shelf", "bin_to_bin", "narrow_bins")

# One box: its sides and its centre, in metres, in the robot's base frame.
BoxAt = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class ProblemSet:
    """Queries in one scene."""

    name: str
    robot: str
    boxes: tuple[BoxAt, ...]
    starts: Array  # [N, J] rad
    goals: Array  # [N, J] rad

    def __len__(self) -> int:
        return len(self.starts)

    def problem(self, number: int, seed: int, **changes: Any) -> Problem:
        """Query `number` as a request."""
        joints = read_robot(self.robot).joints
        start = dict(zip(joints, self.starts[number].tolist(), strict=True))
        goal = JointGoal(dict(zip(joints, self.goals[number].tolist(), strict=True)))
        return Problem(start=start, goal=goal, robot=self.robot, bodies=bodies_of(self.boxes), seed=seed, **changes)


def bodies_of(boxes: tuple[BoxAt, ...]) -> tuple[Body, ...]:
    """A body a box, named by its place in the list."""
    return tuple(
        Body(f"box {number}", ((Box(size), translation(*centre)),)) for number, (size, centre) in enumerate(boxes)
    )


def load_set(name: str, folder: Path | None = None) -> ProblemSet:
    """A stored set. Raises ConfigError that lists those there are."""
    path = (folder or shared("problems")) / f"{name}.json"
    if not path.is_file():
        raise ConfigError(f"no problem set {name!r}{nearest(name, list(SETS))} (there are: {', '.join(SETS)})")
    content = json.loads(path.read_text())
    boxes = tuple((tuple(size), tuple(centre)) for size, centre in content["boxes"])
    queries = np.array(content["queries"], np.float64)  # [N, 2, J]
    return ProblemSet(name, content["robot"], boxes, queries[:, 0], queries[:, 1])
