from __future__ import annotations

import math

import numpy as np
import pytest

from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.solve import Choices, Knapsack, padded

Row = tuple[float, tuple[float, ...], tuple[float, ...]]  # a service: its floor, values and costs
CAMERA: Row = (0.4, (0.5, 0.6), (2.0, 5.0))
MAP: Row = (0.1, (0.15,), (1.0,))


def choices(*rows: Row) -> Choices:
    floors, values, costs = zip(*rows, strict=True)
    return Choices(np.array(floors), padded(values, 0.0), padded(costs, math.inf))


def solved(*rows: Row, cells: int = 20, grain: float = 1.0) -> Knapsack:
    knapsack = Knapsack(cells, grain)
    knapsack.solve(choices(*rows))
    return knapsack


def test_each_budget_has_its_best_choice() -> None:
    knapsack = solved(CAMERA, MAP)
    assert [knapsack.choice(budget) for budget in (0.0, 1.0, 2.0, 3.0, 5.0, 6.0)] == [
        (FLOOR, FLOOR),
        (FLOOR, 0),
        (0, FLOOR),
        (0, 0),
        (1, FLOOR),
        (1, 0),
    ]


def test_a_budget_beyond_the_grid_is_answered_as_its_end() -> None:
    assert solved(CAMERA, cells=3).choice(1e12) == (0,)


def test_costs_are_rounded_up_and_budgets_down() -> None:
    knapsack = solved((0.0, (1.0,), (2.1,)))
    assert knapsack.choice(2.9) == (FLOOR,)
    assert knapsack.choice(3.0) == (0,)


def test_of_equals_the_cheapest_is_taken() -> None:
    assert solved((0.5, (0.5, 0.7, 0.7), (1.0, 4.0, 2.0))).choice(10.0) == (2,)
    assert solved((0.5, (0.5,), (0.0,))).choice(10.0) == (FLOOR,)


def test_an_option_worse_than_the_floor_is_never_taken() -> None:
    assert solved((0.5, (0.4,), (0.0,))).choice(10.0) == (FLOOR,)


def test_a_service_without_options_has_its_floor() -> None:
    assert solved((0.5, (), ()), MAP).choice(10.0) == (FLOOR, 0)


def test_the_next_budget_names_where_more_is_bought() -> None:
    knapsack = solved(CAMERA)
    assert knapsack.next_budget(0.0) == 2.0
    assert knapsack.next_budget(2.0) == 5.0
    assert knapsack.next_budget(5.0) is None


def test_fewer_and_more_services_than_before_are_answered() -> None:
    knapsack = solved(CAMERA, CAMERA)
    assert knapsack.solve(choices(CAMERA)) == 0
    assert knapsack.choice(5.0) == (1,)
    assert knapsack.solve(choices(CAMERA, MAP, MAP)) == 2
    assert knapsack.choice(7.0) == (1, 0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="value is not finite"):
        choices((0.0, (value,), (1.0,)))
    with pytest.raises(ValueError, match="value is not finite"):
        choices((value, (), ()))


@pytest.mark.parametrize("cost", [math.nan, -1.0, -math.inf])
def test_a_cost_that_is_negative_or_no_number_is_refused(cost: float) -> None:
    with pytest.raises(ValueError, match="cost is negative"):
        choices((0.0, (1.0,), (cost,)))


def test_costs_and_values_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="do not go together"):
        Choices(np.zeros(1), np.ones((1, 1)), np.ones((1, 2)))


@pytest.mark.parametrize("budget", [math.nan, -1.0])
def test_a_budget_that_is_negative_or_no_number_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match="budget"):
        solved(CAMERA).choice(budget)
