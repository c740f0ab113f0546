"""Makes the problem sets: `python -m skyfog_planning.problem_maker [NAME…]`. Takes minutes.

Tool poses are drawn in each region of a scene and solved for free joint positions; a query leads from one region to
another, and is kept if it was solved once within SOLVE_S.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog

from skyfog_planning.anytime import Planner
from skyfog_planning.collision import ArmModel, Scene
from skyfog_planning.ik import Solver, several
from skyfog_planning.problem import Array, JointGoal, PlanError, PoseGoal, Problem
from skyfog_planning.problems import SETS, BoxAt, ProblemSet, bodies_of
from skyfog_planning.robots import read_robot, shared

log = structlog.get_logger()

QUERIES = 100
SEED = 20_241
SOLVE_S = 30.0
MARGIN_M = 0.005  # of start and goal from everything
CONFIGURATIONS = 40  # a region
DIGITS = 6

FORWARD = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])  # the tool's z along x
DOWN = np.diag([1.0, -1.0, -1.0])

Region = tuple[tuple[float, float, float], tuple[float, float, float]]  # low and high corner of the tool's place


@dataclass(frozen=True, slots=True)
class Recipe:
    """A scene, where the tool goes in it, and how it is turned."""

    boxes: tuple[BoxAt, ...]
    regions: tuple[Region, ...]
    turn: Array
    yaw: float  # drawn within +-, about the tool's z


def shelf(
    front: float, width: float, depth: float, levels: tuple[float, ...], sheet: float = 0.02
) -> tuple[BoxAt, ...]:
    """Boards at each level, walls left, right, between and behind; open towards the robot."""
    low, high = levels[0], levels[-1]
    middle = front + depth / 2
    boards: list[BoxAt] = [((depth, width, sheet), (middle, 0.0, level)) for level in levels]
    walls: list[BoxAt] = [
        ((depth, sheet, high - low), (middle, y, (low + high) / 2)) for y in (-width / 2, 0.0, width / 2)
    ]
    back: BoxAt = ((sheet, width, high - low), (front + depth, 0.0, (low + high) / 2))
    return (*boards, *walls, back)


def compartments(
    front: float, width: float, levels: tuple[float, ...], deep: tuple[float, float], slack: float
) -> tuple[Region, ...]:
    """One region a compartment of such a shelf, `deep` behind its front, within `slack` of its middle."""
    return tuple(
        ((front + deep[0], y - slack, (a + b) / 2 - slack), (front + deep[1], y + slack, (a + b) / 2 + slack))
        for a, b in itertools.pairwise(levels)
        for y in (-width / 4, width / 4)
    )


def bin_at(x: float, y: float, inside: float, high: float, sheet: float = 0.015) -> tuple[BoxAt, ...]:
    """An open box standing on z = 0."""
    half, long = inside / 2 + sheet / 2, inside + 2 * sheet
    return (
        ((long, long, sheet), (x, y, sheet / 2)),
        ((sheet, long, high), (x - half, y, high / 2)),
        ((sheet, long, high), (x + half, y, high / 2)),
        ((long, sheet, high), (x, y - half, high / 2)),
        ((long, sheet, high), (x, y + half, high / 2)),
    )


def recipes() -> dict[str, Recipe]:
    """The four sets."""
    floor: BoxAt = ((1.0, 1.6, 0.04), (0.65, 0.0, -0.03))
    things: tuple[BoxAt, ...] = (
        ((0.08, 0.08, 0.3), (0.5, 0.15, 0.15)),
        ((0.1, 0.1, 0.2), (0.45, -0.2, 0.1)),
        ((0.06, 0.3, 0.25), (0.65, 0.0, 0.125)),
    )
    levels = (0.02, 0.34, 0.66, 0.98)
    tight = (0.06, 0.34, 0.62, 0.9)
    return {
        "table": Recipe(
            (floor, *things),
            (((0.35, -0.5, 0.06), (0.65, -0.3, 0.3)), ((0.35, 0.3, 0.06), (0.65, 0.5, 0.3))),
            DOWN,
            1.0,
        ),
        "shelf": Recipe(
            shelf(0.55, 0.9, 0.35, levels), compartments(0.55, 0.9, levels, (0.08, 0.16), 0.03), FORWARD, 0.3
        ),
        "bin_to_bin": Recipe(
            (floor, *bin_at(0.5, 0.3, 0.26, 0.3), *bin_at(0.5, -0.3, 0.26, 0.3)),
            (((0.46, 0.28, 0.06), (0.54, 0.32, 0.12)), ((0.46, -0.32, 0.06), (0.54, -0.28, 0.12))),
            DOWN,
            3.1,
        ),
        "narrow_bins": Recipe(
            shelf(0.45, 0.7, 0.38, tight), compartments(0.45, 0.7, tight, (0.21, 0.25), 0.01), FORWARD, 0.1
        ),
    }


def make_set(name: str, recipe: Recipe, planner: Planner, arm: ArmModel, queries: int = QUERIES) -> ProblemSet:
    """Draw configurations, pair them, keep what is solved."""
    rng = np.random.default_rng([SEED, SETS.index(name)])
    robot = arm.robot
    ready = dict(zip(robot.joints, robot.spec.ready, strict=True))
    empty = Problem(start=ready, goal=JointGoal(ready), bodies=bodies_of(recipe.boxes))
    scene = Scene(arm, empty, "hulls", MARGIN_M)
    places = [_configurations(region, recipe, arm, scene, rng) for region in recipe.regions]
    log.info("configurations", set=name, regions=[len(place) for place in places])
    places = [place for place in places if place]
    found: list[tuple[Array, Array]] = []
    while len(found) < queries:
        first, second = rng.choice(len(places), 2, replace=False)
        pair = (places[first][rng.integers(len(places[first]))], places[second][rng.integers(len(places[second]))])
        query = np.round(np.stack(pair), DIGITS)
        made = ProblemSet(name, robot.name, recipe.boxes, query[:1], query[1:])
        try:
            planner.plan(replace(made.problem(0, seed=len(found) + 1), budget_s=SOLVE_S))
        except PlanError as error:
            log.info("dropped", set=name, why=str(error))
            continue
        found.append((query[0], query[1]))
    starts, goals = (np.array(half) for half in zip(*found, strict=True))
    return ProblemSet(name, robot.name, recipe.boxes, starts, goals)


def _configurations(
    region: Region, recipe: Recipe, arm: ArmModel, scene: Scene, rng: np.random.Generator
) -> list[Array]:
    low, high = (np.array(corner) for corner in region)
    made: list[Array] = []
    for _ in range(10 * CONFIGURATIONS):
        pose = np.eye(4)
        yaw = rng.uniform(-recipe.yaw, recipe.yaw)
        about = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        pose[:3, :3] = recipe.turn @ about
        pose[:3, 3] = rng.uniform(low, high)
        solver = Solver(arm, dict(arm.robot.spec.others), PoseGoal(pose))
        attempts = solver.solutions(rng.uniform(arm.robot.lower, arm.robot.upper), rng, 60)
        good, _touching = several(attempts, scene.valid, 1, 60, _never)
        made += good
        if len(made) >= CONFIGURATIONS:
            break
    return made


def _never() -> bool:
    return False


def as_json(made: ProblemSet) -> str:
    """One query a line."""
    head = json.dumps({"robot": made.robot, "boxes": made.boxes})[:-1]
    rows = ",\n".join(json.dumps([a.tolist(), b.tolist()]) for a, b in zip(made.starts, made.goals, strict=True))
    return f'{head}, "queries": [\n{rows}\n]}}\n'


def write_sets(names: list[str], folder: Path, say: Callable[[str], None]) -> None:
    """Make the named sets, each in a file of its own."""
    robot = read_robot("panda")
    planner, arm = Planner(robot), ArmModel(robot)
    for name in names:
        made = make_set(name, recipes()[name], planner, arm)
        (folder / f"{name}.json").write_text(as_json(made))
        say(f"{name}: {len(made)} queries")


if __name__ == "__main__":
    write_sets(sys.argv[1:] or list(SETS), shared("problems"), log.info)
