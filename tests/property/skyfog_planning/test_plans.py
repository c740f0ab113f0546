"""Whatever is asked between free configurations: what comes back passes the check, within limits, as the seed says."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from support.arms import JOINTS, panda_problem

pytest.importorskip("ompl", reason="ompl is not installed: ./ws extra planning")
pytest.importorskip("pyroboplan", reason="pyroboplan is not installed: ./ws extra planning")

from skyfog_planning.anytime import Planner
from skyfog_planning.check import Checker
from skyfog_planning.problem import PlanError, Problem
from skyfog_planning.problems import bodies_of, load_set
from skyfog_planning.robots import read_robot

ROBOT = read_robot("panda")
shares = st.lists(st.floats(0.05, 0.95), min_size=7, max_size=7)
BODIES = bodies_of(load_set("table").boxes)


@cache
def planner() -> Planner:
    return Planner(ROBOT)


@cache
def checker() -> Checker:
    return Checker(ROBOT)


def configuration(share: list[float]) -> list[float]:
    return (ROBOT.lower + np.array(share) * (ROBOT.upper - ROBOT.lower)).tolist()


def drawn(start: list[float], goal: list[float], **fields: object) -> Problem:
    problem = panda_problem(configuration(start), configuration(goal), bodies=BODIES, budget_s=10.0, **fields)
    for end in (start, goal):
        assume(checker().touching(problem, np.array(configuration(end))) is None)
    return problem


@settings(max_examples=15)
@given(start=shares, goal=shares, seed=st.integers(1, 2**63), speed=st.floats(0.05, 1), push=st.floats(0.05, 1))
def test_a_plan_passes_the_check_and_is_the_seeds(
    start: list[float], goal: list[float], seed: int, speed: float, push: float
) -> None:
    problem = drawn(start, goal, seed=seed, velocity_scaling=speed, acceleration_scaling=push)
    try:
        plan = planner().plan(problem)
    except PlanError:
        assume(False)
        raise
    made = plan.trajectory
    assert checker().check(problem, made).problems == ()
    assert made.joints == JOINTS
    assert (np.abs(made.velocities) <= ROBOT.velocity * speed * (1 + 1e-9)).all()
    assert (np.abs(made.accelerations) <= ROBOT.acceleration * push * (1 + 1e-9)).all()
    assert (made.positions >= ROBOT.lower - 1e-9).all()
    assert (made.positions <= ROBOT.upper + 1e-9).all()
    again = planner().plan(problem)
    assert np.array_equal(again.trajectory.positions, made.positions)
    assert again.min_clearance_m == plan.min_clearance_m
