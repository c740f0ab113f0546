"""A request from beginning to end: goals, search, shortcuts, timing, and the check that nothing is returned without.

    start, goal valid? -> IK -> search -> shortcut -> timing -> check --passed--> better than the best so far? keep it
                                   ^                               |
                                   +---- fails: the next attempt --+

With `quality` 0 the first plan that passes ends it. Otherwise attempts go on, each with a stream of random numbers of
its own, until the length is within `quality` times the straight distance or the budget ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from skyfog_planning import smooth, timing
from skyfog_planning.cartesian import straight
from skyfog_planning.check import Checker
from skyfog_planning.collision import ArmModel, Scene, collision
from skyfog_planning.ik import Solver, several
from skyfog_planning.options import Options
from skyfog_planning.planners.search import Search, seed_ompl
from skyfog_planning.planners.table import PlannerKind, find_planner
from skyfog_planning.problem import (
    Array,
    Code,
    JointGoal,
    Plan,
    PlanError,
    PoseGoal,
    Problem,
    Progress,
    Stages,
    Trajectory,
    path_length,
)
from skyfog_planning.robots import Robot

REPORT_S = 0.1
STILL_RAD = 1e-9
TIMINGS = (0.25, 0.1, 0.0)  # spacing of the spline's points in rad; 0: straight lines with a stop in every corner


class Planner:
    """Plans for one robot; `plan` may be called again and again, from one thread."""

    def __init__(self, robot: Robot, options: Options | None = None) -> None:
        """Load the robot twice, for the planner and for the checker. Raises ConfigError."""
        self.robot = robot
        self.options = options or Options()
        self._arm = ArmModel(robot)
        self._checker = Checker(robot)

    def plan(self, problem: Problem, report: Callable[[Progress], None] = lambda _progress: None) -> Plan:
        """A plan that passed the check. Raises PlanError."""
        problem.check()
        return _Run(self._arm, self._checker, self.options, problem, report).plan()


class _Watch:
    """Milliseconds a stage."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.spent: dict[str, float] = {}
        self._last = self.began

    def restart(self) -> None:
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """The time since the last lap was spent on `stage`."""
        now = time.monotonic()
        self.spent[stage] = self.spent.get(stage, 0.0) + (now - self._last) * 1e3
        self._last = now

    def stages(self) -> Stages:
        return Stages(**self.spent, total_ms=(time.monotonic() - self.began) * 1e3)


class _Run:
    """One request. Time is asked only for the budget, so that without it running out the seed decides everything."""

    def __init__(
        self,
        arm: ArmModel,
        checker: Checker,
        options: Options,
        problem: Problem,
        report: Callable[[Progress], None],
    ) -> None:
        self._arm, self._checker, self._options, self._problem, self._report = arm, checker, options, problem, report
        robot = arm.robot
        self._watch = _Watch()
        self._ends = self._watch.began + problem.budget_s
        self._kind = find_planner(problem.planner or options.planner)
        self._start = robot.arm_positions("start", dict(problem.start), strangers=True)
        self._exact = Scene(arm, problem, "hulls")
        # What is searched in: the first in which start and goal are free.
        careful = [Scene(arm, problem, "hulls", options.margin_m)] if options.margin_m else []
        self._scenes = [*careful, self._exact]
        if options.geometry == "spheres":
            self._scenes.insert(0, Scene(arm, problem, "spheres", options.margin_m))
        self._best: Plan | None = None
        self._why = "the search found nothing"
        self._reported = 0.0
        self._floor = 0.0  # no path is shorter

    def plan(self) -> Plan:
        self._check_start()
        seed_ompl(self._problem.seed)
        if self._problem.cartesian:
            return self._cartesian()
        goals = self._goals()
        self._watch.lap("ik_ms")
        self._floor = min(float(np.linalg.norm(goal - self._start)) for goal in goals)
        attempt = 0
        while not self._enough():
            if self._late() and (attempt or self._best):
                break
            self._attempt(attempt, goals)
            attempt += 1
        if self._best is None:
            tried = f"after {attempt} attempts with {self._kind.name}"
            text = f"no plan within {self._problem.budget_s:g} s {tried}: {self._why}"
            raise PlanError(Code.NO_PLAN_IN_TIME, text)
        return replace(self._best, iterations=self._checks, stages=self._watch.stages())

    def _check_start(self) -> None:
        self._arm.robot.check_limits("start", Code.START_OUTSIDE_LIMITS, self._start)
        if not self._exact.valid(self._start):
            raise collision(Code.START_IN_COLLISION, "start", self._exact.touching(self._start))

    @property
    def _checks(self) -> int:
        return sum(scene.checks for scene in self._scenes)

    def _goals(self) -> list[Array]:
        """Goal configurations, the nearest first. Raises PlanError."""
        goal = self._problem.goal
        exact = self._exact
        if isinstance(goal, JointGoal):
            wanted = self._arm.robot.arm_positions("goal_joints", dict(goal.positions))
            self._arm.robot.check_limits("goal_joints", Code.GOAL_OUTSIDE_LIMITS, wanted)
            if not exact.valid(wanted):
                raise collision(Code.GOAL_IN_COLLISION, "goal", exact.touching(wanted))
            return [wanted]
        solver = self._solver(goal)
        rng = np.random.default_rng([self._problem.seed, 1])
        attempts = solver.solutions(self._start, rng, self._options.ik_tries)
        good, touching = several(attempts, exact.valid, self._options.goals, self._options.ik_patience, self._late)
        if good:
            return sorted(good, key=lambda q: float(np.linalg.norm(q - self._start)))
        if touching:
            where = f"goal_pose ({len(touching)} IK solutions, all blocked)"
            raise collision(Code.GOAL_IN_COLLISION, where, exact.touching(touching[0]))
        x, y, z = goal.pose[:3, 3]
        link = goal.link or self._arm.robot.spec.tool.name
        raise PlanError(
            Code.GOAL_UNREACHABLE,
            f"goal_pose: no joint positions put {link} at ({x:.3f}, {y:.3f}, {z:.3f}) with that orientation",
        )

    def _solver(self, goal: PoseGoal) -> Solver:
        return Solver(self._arm, self._arm.robot.other_positions(dict(self._problem.start)), goal)

    def _cartesian(self) -> Plan:
        goal = self._problem.goal
        assert isinstance(goal, PoseGoal)
        path = straight(self._solver(goal), self._exact, self._start, goal)
        self._watch.lap("ik_ms")
        trajectory, faults = self._timed(path, exact=True)
        if trajectory is None:
            raise PlanError(Code.CARTESIAN_BLOCKED, f"the straight line fails the check: {faults}")
        assert self._best is not None
        return self._best

    def _attempt(self, number: int, goals: list[Array]) -> None:
        rng = np.random.default_rng([self._problem.seed, 2, number])
        scene = next(one for one in self._scenes if one.valid(self._start) and one.valid(goals[0]))
        goals = [goal for goal in goals if scene.valid(goal)]
        self._watch.restart()
        path = self._search(scene, goals, number)
        self._watch.lap("plan_ms")
        if path is None:
            return
        path = smooth.shortcut(path, self._free(scene), rng, self._options.shortcuts, self._late)
        self._watch.lap("smooth_ms")
        if self._best is None or path_length(path) < self._best.path_length_rad:
            trajectory, _ = self._timed(path, exact=False)
            if trajectory is None and self._options.geometry == "spheres" and len(self._scenes) > 1:
                self._scenes.pop(0)  # the spheres left something out: on with the hulls

    def _search(self, scene: Scene, goals: list[Array], number: int) -> Array | None:
        """[N, J], or None. A straight line first: it needs no tree."""
        for goal in goals:
            if number == 0 and self._free(scene)(self._start, goal):
                return np.stack([self._start, goal])
        robot = self._arm.robot
        search = Search(robot.lower, robot.upper, scene.valid, self._options)
        left = max(0.001, self._ends - time.monotonic())
        return search.run(self._kind, self._start, goals, left, self._enough_rad(self._kind), self._hear)

    def _enough_rad(self, kind: PlannerKind) -> float:
        """The length at which an optimising planner may stop."""
        if not kind.optimises:
            return math.inf
        if self._problem.anytime:
            return 0.0
        return self._problem.quality * self._floor if self._problem.quality else math.inf

    def _timed(self, path: Array, exact: bool) -> tuple[Trajectory | None, str]:
        """Time and check a path; what passes becomes the best. `exact`: only spacings that stay near the path."""
        robot, problem = self._arm.robot, self._problem
        velocity = robot.velocity * problem.velocity_scaling
        acceleration = robot.acceleration * problem.acceleration_scaling
        faults = ""
        for spacing in TIMINGS[1:] if exact else TIMINGS:
            self._watch.restart()
            try:
                if path_length(path) < STILL_RAD:
                    trajectory = timing.still(robot.joints, path[0])
                elif spacing:
                    trajectory = timing.spline(robot.joints, path, velocity, acceleration, spacing)
                else:
                    trajectory = timing.corners(robot.joints, path, velocity, acceleration)
            except ValueError as error:  # of a spline; straight lines can always be timed
                self._why = faults = f"a path was found, but not timed: {error}"
                continue
            finally:
                self._watch.lap("timing_ms")
            verdict = self._checker.check(problem, trajectory)
            self._watch.lap("check_ms")
            if verdict.passed:
                self._keep_better(trajectory, verdict.min_clearance_m)
                return trajectory, ""
            faults = verdict.problems[0]
            self._why = f"a path was found, but its check failed: {faults}"
        return None, faults

    def _keep_better(self, trajectory: Trajectory, clearance_m: float) -> None:
        length = path_length(trajectory.positions)  # of a spline: a little more than its path's
        if self._best is None or length < self._best.path_length_rad:
            planner = "straight line" if self._problem.cartesian else self._kind.name
            seed, stages = self._problem.seed, self._watch.stages()
            self._best = Plan(trajectory, length, clearance_m, planner, self._checks, seed, stages)
        self._hear(length)

    def _free(self, scene: Scene) -> Callable[[Array, Array], bool]:
        """Whether a straight line is free; the middle first, where it most likely is not."""
        step = self._options.edge_step_rad

        def free(a: Array, b: Array) -> bool:
            count = max(1, math.ceil(float(np.linalg.norm(b - a)) / step))
            order = sorted(range(1, count + 1), key=lambda i: abs(2 * i - count))
            return all(scene.valid(a + (b - a) * (i / count)) for i in order)

        return free

    def _hear(self, length: float) -> None:
        """Report now and then."""
        now = time.monotonic()
        if now - self._reported >= REPORT_S:
            self._reported = now
            best = self._best.path_length_rad if self._best else math.inf
            self._report(Progress(min(best, length), self._checks, now - self._watch.began))

    def _enough(self) -> bool:
        if self._best is None or self._problem.anytime:
            return False
        quality = self._problem.quality
        return not quality or self._best.path_length_rad <= quality * self._floor

    def _late(self) -> bool:
        return time.monotonic() >= self._ends
