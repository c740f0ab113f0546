"""The arithmetic of benchmarks."""

from __future__ import annotations

import pytest

from skyfog_bench.measure import figure, growth, quantile, ratio


def test_quantile_interpolates_between_neighbours() -> None:
    assert quantile([4.0, 1.0, 2.0, 3.0], 0.5) == 2.5
    assert quantile([4.0, 1.0, 2.0, 3.0], 1.0) == 4.0
    assert quantile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1.0], 1.5)])
def test_quantile_refuses_what_has_none(values: list[float], q: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        quantile(values, q)


def test_figure_is_the_median_of_rounds_and_their_quartiles() -> None:
    found = figure([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.value, found.low, found.high) == (3.0, 2.0, 4.0)


def test_ratio_pools_calls_for_its_value_and_compares_round_by_round_for_its_spread() -> None:
    # The third round was slow for both: it changes the medians hardly and the ratios of rounds not at all.
    mine = [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0], [20.0, 20.0, 20.0]]
    peer = [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [10.0, 10.0, 10.0]]
    found = ratio(mine, peer)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_ratio_needs_the_same_rounds_on_both_sides() -> None:
    with pytest.raises(ValueError, match="2 rounds beside 1"):
        ratio([[1.0], [1.0]], [[1.0]])


def test_growth_of_a_line_is_that_of_its_second_half() -> None:
    assert growth([float(i) for i in range(101)]) == pytest.approx(41.0)  # medians of 91..100 and of 50..59


def test_growth_ignores_one_burst_and_what_happened_before_the_middle() -> None:
    samples = [1.0] * 20 + [50.0] * 40
    samples[-1] = 500.0
    assert growth(samples) == 0.0
