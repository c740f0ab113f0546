"""One search by OMPL: from a start to the nearest of several goals.

Traps, each measured: `solve()` holds the GIL, so that a search needs a process of its own; PRM never ends with a Python
termination callable, so that it gets seconds; BIT* returns its first plan only with a cost threshold; the default
resolution of edges, 1 %, steps over thin walls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ompl.base as ob
import ompl.util as ou

from skyfog_planning.options import Options
from skyfog_planning.planners.table import PlannerKind, make
from skyfog_planning.problem import Array

ANY_COST = 1e9


def seed_ompl(seed: int) -> None:
    """Seed OMPL's generators of this process: those made from now on. 32 bits, never 0."""
    ou.setLogLevel(ou.LOG_NONE)  # also of its complaint that generators were made before
    ou.RNG.setSeed(1 + seed % (2**32 - 2))


class Search:
    """A space with its validity check; each `run` is a planner of its own."""

    def __init__(self, lower: Array, upper: Array, valid: Callable[[list[float]], bool], options: Options) -> None:
        self._joints = len(lower)
        self._options = options
        bounds = ob.RealVectorBounds(self._joints)
        for i in range(self._joints):
            bounds.setLow(i, float(lower[i]))
            bounds.setHigh(i, float(upper[i]))
        self._space = ob.RealVectorStateSpace(self._joints)
        self._space.setBounds(bounds)
        self._information = ob.SpaceInformation(self._space)
        joints = range(self._joints)
        self._information.setStateValidityChecker(lambda state: valid([state[i] for i in joints]))
        self._information.setStateValidityCheckingResolution(options.resolution)
        self._information.setup()

    def run(
        self,
        kind: PlannerKind,
        start: Array,
        goals: Sequence[Array],
        limit_s: float,
        enough_rad: float = math.inf,
        watch: Callable[[float], None] = lambda _best: None,
    ) -> Array | None:
        """[N, J] way-points, or None where none was found in time.

        An optimising planner goes on until its path is at most `enough_rad` long. `watch` hears the best length.
        """
        definition = ob.ProblemDefinition(self._information)
        if kind.timed:
            definition.setStartAndGoalStates(self._state(start), self._state(goals[0]))
        else:
            self._pose(definition, start, goals, enough_rad)
        planner = make(kind, self._information)
        if hasattr(planner, "setRange"):
            planner.setRange(self._options.range_rad)
        planner.setProblemDefinition(definition)
        planner.setup()
        if kind.timed:
            planner.solve(limit_s)
        else:
            planner.solve(ob.PlannerTerminationCondition(self._until(definition, limit_s, enough_rad, watch)))
        if not definition.hasExactSolution():
            return None
        path = definition.getSolutionPath()
        states = [path.getState(i) for i in range(path.getStateCount())]
        return np.array([[state[i] for i in range(self._joints)] for state in states])

    def _pose(self, definition: Any, start: Array, goals: Sequence[Array], enough_rad: float) -> None:
        definition.addStartState(self._state(start))
        targets = ob.GoalStates(self._information)
        for goal in goals:
            targets.addState(self._state(goal))
        definition.setGoal(targets)
        objective = ob.PathLengthOptimizationObjective(self._information)
        objective.setCostThreshold(ob.Cost(min(enough_rad, ANY_COST)))
        definition.setOptimizationObjective(objective)

    def _until(
        self, definition: Any, limit_s: float, enough_rad: float, watch: Callable[[float], None]
    ) -> Callable[[], bool]:
        ends = time.monotonic() + limit_s

        def stop() -> bool:
            best = definition.getSolutionPath().length() if definition.hasExactSolution() else math.inf
            watch(best)
            return time.monotonic() >= ends or best <= min(enough_rad, ANY_COST)

        return stop

    def _state(self, positions: Array) -> Any:
        state = self._space.allocState()
        for i in range(self._joints):
            state[i] = float(positions[i])
        return state
