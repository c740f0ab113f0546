"""The peers of `skyfog bench uplink_solve` answer the same question as the knapsack does."""

from __future__ import annotations

import highspy
import numpy as np

from skyfog_bench import uplink_solve as bench
from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.solve import Choices

PROBLEM = Choices(np.array([0.4, 0.1]), np.array([[0.5, 0.65], [0.3, 0.2]]), np.array([[10e6, 40e6], [20e6, np.inf]]))


def spent(problem: Choices, chosen: tuple[int, ...]) -> float:
    return sum(float(problem.costs[at, j]) for at, j in enumerate(chosen) if j != FLOOR)


def test_each_way_keeps_to_the_budget_and_none_beats_the_optimum() -> None:
    finite = Choices(PROBLEM.floors, PROBLEM.values, np.where(np.isinf(PROBLEM.costs), 1e9, PROBLEM.costs))
    for way in (bench.cold, bench.greedy, bench.scipy_milp, bench.highs):
        chosen = way(finite, bench.LINK_BPS)
        assert spent(finite, chosen) <= bench.LINK_BPS
        assert bench.worth(finite, chosen) <= 0.8 + 1e-9
    assert bench.highs(finite, bench.LINK_BPS) == bench.cold(finite, bench.LINK_BPS) == (0, 0)


def test_highs_answers_where_others_have_solved_with_more_threads() -> None:
    other = highspy.Highs()
    for key, value in (("output_flag", False), ("threads", 2)):
        other.setOptionValue(key, value)
    highspy.Highs.resetGlobalScheduler(True)
    other.run()
    assert bench.highs(bench.drawn(np.random.default_rng(3)), bench.LINK_BPS)


def test_the_knapsack_is_near_the_optimum_on_a_drawn_problem() -> None:
    problem = bench.drawn(np.random.default_rng(3))
    exact = bench.timed("HiGHS", bench.highs, [problem], warm_up=0)
    ours = bench.timed("ours", bench.cold, [problem], warm_up=0)
    assert -1e-6 <= bench.gap_pct(ours, exact, [problem]) < 1.0


def test_a_warm_knapsack_finds_what_a_cold_one_does() -> None:
    problems = [bench.drawn(np.random.default_rng(seed)) for seed in range(3)]
    cold = bench.timed("ours", bench.cold, problems, warm_up=0)
    for way in bench.warm(problems):
        assert way.worths == cold.worths
