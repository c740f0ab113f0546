"""The knapsack: optimal (against HiGHS), within every budget, monotone, and the same however it was warmed up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import highspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.solve import Choices, Knapsack, padded

CELLS = 60
ROUNDING = 1e-9

costs = st.one_of(
    st.integers(0, 80_000).map(lambda mils: mils / 1_000), st.integers(0, 80).map(float), st.just(math.inf)
)
values = st.floats(-1, 10, allow_nan=False)


@dataclass(frozen=True)
class Row:
    """What one service may choose."""

    floor: float
    values: list[float]
    costs: list[float]


@st.composite
def rows(draw: st.DrawFn) -> Row:
    count = draw(st.integers(0, 6))
    of = st.lists(values, min_size=count, max_size=count)
    return Row(draw(values), draw(of), draw(st.lists(costs, min_size=count, max_size=count)))


def choices(of: list[Row]) -> Choices:
    wide = [[1e9] * 6, *([row.values for row in of])]  # all as wide, so that rows may be told apart one by one
    given_costs = padded([[math.inf] * 6, *([row.costs for row in of])], math.inf)
    return Choices(np.array([row.floor for row in of]), padded(wide, math.nan)[1:], given_costs[1:])


services = st.lists(rows(), min_size=1, max_size=6)
budgets = st.floats(0, 100)


def worth(given_: list[Row], chosen: tuple[int, ...]) -> float:
    return sum(c.floor if j == FLOOR else c.values[j] for c, j in zip(given_, chosen, strict=True))


def charged(given_: list[Row], chosen: tuple[int, ...], grain: float = 0.0) -> float:
    """The sum of the costs, each rounded up to the grain where there is one."""
    own = [c.costs[j] for c, j in zip(given_, chosen, strict=True) if j != FLOOR]
    return sum(math.ceil(cost / grain) * grain if grain else cost for cost in own)


def highs(given_: list[Row], budget: float, grain: float = 0.0) -> float:
    """The optimum by HiGHS; costs in whole grains where there is a grain."""
    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("mip_rel_gap", 0.0)
    model.setOptionValue("mip_abs_gap", 1e-9)
    spent = model.expr()
    gained = model.expr()
    base = 0.0
    for c in given_:
        base += c.floor
        taken = [j for j in range(len(c.costs)) if math.isfinite(c.costs[j])]
        picks = [model.addBinary() for _ in taken]
        for pick, j in zip(picks, taken, strict=True):
            spent += (math.ceil(c.costs[j] / grain) if grain else c.costs[j]) * pick
            gained += (c.values[j] - c.floor) * pick
        if picks:
            model.addConstr(sum(picks[1:], picks[0] * 1) <= 1)
    if model.getNumCol() == 0:
        return base
    model.addConstr(spent <= (math.floor(budget / grain) if grain else budget))
    model.maximize(gained)
    assert model.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return base + float(model.getInfo().objective_function_value)


@settings(max_examples=150, deadline=None)
@given(services, budgets)
def test_the_choice_is_the_optimum_on_the_grid_as_highs_finds_it(given_: list[Row], budget: float) -> None:
    knapsack = Knapsack(CELLS, 1.0)
    knapsack.solve(choices(given_))
    best = highs(given_, min(budget, CELLS), 1.0)
    assert knapsack.value(budget) == pytest.approx(best, abs=1e-6)
    assert worth(given_, knapsack.choice(budget)) == pytest.approx(best, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(services, st.floats(0, 60))
def test_the_grid_costs_no_more_than_a_grain_a_service(given_: list[Row], budget: float) -> None:
    knapsack = Knapsack(6_000, 0.01)
    knapsack.solve(choices(given_))
    assert knapsack.value(budget) <= highs(given_, budget) + 1e-6
    without = budget - 0.01 * (len(given_) + 1)
    if without >= 0:
        assert knapsack.value(budget) >= highs(given_, without) - 1e-6


@given(services, budgets, st.floats(0.05, 5))
def test_no_choice_exceeds_its_budget_or_takes_an_infinite_cost(given_: list[Row], budget: float, grain: float) -> None:
    knapsack = Knapsack(CELLS, grain)
    knapsack.solve(choices(given_))
    chosen = knapsack.choice(budget)
    assert charged(given_, chosen) <= budget * (1 + ROUNDING)
    assert knapsack.value(budget) == pytest.approx(worth(given_, chosen))


@given(services)
def test_with_nothing_there_is_the_floor_or_what_costs_nothing(given_: list[Row]) -> None:
    knapsack = Knapsack(CELLS, 1.0)
    knapsack.solve(choices(given_))
    for c, j in zip(given_, knapsack.choice(0.0), strict=True):
        assert j == FLOOR or c.costs[j] == 0


@given(services)
def test_more_budget_is_never_worth_less(given_: list[Row]) -> None:
    knapsack = Knapsack(CELLS, 1.0)
    knapsack.solve(choices(given_))
    found = [knapsack.value(float(budget)) for budget in range(CELLS + 5)]
    assert found == sorted(found)


@given(services, budgets)
def test_the_next_budget_is_the_least_that_buys_more(given_: list[Row], budget: float) -> None:
    knapsack = Knapsack(CELLS, 0.7)
    knapsack.solve(choices(given_))
    now, following = knapsack.value(budget), knapsack.next_budget(budget)
    if following is None:
        assert knapsack.value(CELLS * 0.7 + 1) == now
    else:
        assert knapsack.value(following) > now
        assert knapsack.value(max(0.0, following - 0.71)) <= now


@given(st.lists(services, min_size=2, max_size=5), budgets)
def test_a_warm_knapsack_answers_as_a_cold_one(histories: list[list[Row]], budget: float) -> None:
    warm = Knapsack(CELLS, 1.0)
    for given_ in [*histories, *([each[:-1] + histories[0][-1:] for each in histories])]:
        warm.solve(choices(given_))
        cold = Knapsack(CELLS, 1.0)
        cold.solve(choices(given_))
        assert warm.choice(budget) == cold.choice(budget)
        assert warm.value(budget) == cold.value(budget)


@given(services, st.integers(0, 5), rows())
def test_only_rows_from_the_changed_service_on_are_computed(given_: list[Row], at: int, other: Row) -> None:
    knapsack = Knapsack(CELLS, 1.0)
    assert knapsack.solve(choices(given_)) == len(given_)
    assert knapsack.solve(choices(list(given_))) == 0
    at %= len(given_)
    if given_[at].floor != other.floor:
        assert knapsack.solve(choices([*given_[:at], other, *given_[at + 1 :]])) == len(given_) - at


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_hundreds_of_equal_options_are_chosen_from_without_an_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs_, values_ = rng.integers(0, 5, (8, 40)), rng.integers(0, 3, (8, 40))
    given_ = [Row(0.0, v, c) for v, c in zip(values_.tolist(), costs_.tolist(), strict=True)]
    knapsack = Knapsack(CELLS, 1.0)
    knapsack.solve(Choices(np.zeros(8), values_ * 1.0, costs_ * 1.0))
    assert charged(given_, knapsack.choice(10.0), 1.0) <= 10
