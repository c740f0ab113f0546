"""How many copies are paid for."""

from __future__ import annotations

from skyfog_router.policy.load_budget import LoadBudget


def granted(budget: LoadBudget, requests: int) -> int:
    before = budget.granted
    for _ in range(requests):
        budget.on_request()
        while budget.take():
            pass
    return budget.granted - before


def test_over_any_time_no_more_than_the_ratio_and_what_was_saved_up() -> None:
    budget = LoadBudget(0.5)
    assert budget.burst == 25
    assert granted(budget, 1_000) == 524, "what the first request brought did not fit"
    assert granted(budget, 1_000) == 500, "the savings are gone"


def test_what_nobody_took_is_saved_up_to_a_bound() -> None:
    budget = LoadBudget(0.4)
    granted(budget, 10)
    for _ in range(10_000):
        budget.on_request()
    assert budget.has(20)
    assert not budget.has(20.1)


def test_a_small_ratio_still_has_a_few_to_begin_with_and_none_has_none() -> None:
    assert granted(LoadBudget(0.01), 1) == 3
    assert granted(LoadBudget(0.0), 1_000) == 0
    assert not LoadBudget(0.0).has()


def test_a_ratio_above_1_pays_several_copies_a_request() -> None:
    budget = LoadBudget(2.0)
    granted(budget, 1)
    assert granted(budget, 10) == 20


def test_another_ratio_keeps_what_was_saved_up_as_far_as_it_fits() -> None:
    budget = LoadBudget(1.0)
    budget.reconfigure(0.1)
    assert (budget.ratio, budget.burst) == (0.1, 5.0)
    assert budget.has(5.0)
    assert not budget.has(5.1)
    budget.reconfigure(1.0)
    assert not budget.has(5.1), "a larger one brings nothing at once"
