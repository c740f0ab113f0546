from __future__ import annotations

from random import Random

import pytest

from skyfog_core.units import MS
from skyfog_sim.durations import Constant, Empirical, LogNormal, Uniform

N = 4_000


def quantile(duration: Constant | Uniform | LogNormal | Empirical, share: float) -> int:
    random = Random(1)
    return sorted(duration.draw(random) for _ in range(N))[int(share * N)]


def test_each_distribution_has_the_middle_that_it_says() -> None:
    assert quantile(Constant(5), 0.5) == 5
    assert quantile(Uniform(10 * MS, 20 * MS), 0.5) == pytest.approx(15 * MS, rel=0.03)
    assert quantile(LogNormal(10 * MS, 0.5, most_ns=500 * MS), 0.5) == pytest.approx(10 * MS, rel=0.05)
    assert quantile(LogNormal(10 * MS, 0.5, most_ns=500 * MS), 0.99) == pytest.approx(32 * MS, rel=0.1)


def test_a_recorded_distribution_keeps_its_quantiles() -> None:
    recorded = Empirical.of_quantiles({0.0: 1 * MS, 0.5: 4 * MS, 0.9: 11 * MS, 1.0: 60 * MS})
    assert quantile(recorded, 0.5) == pytest.approx(4 * MS, rel=0.05)
    assert quantile(recorded, 0.8) == pytest.approx(9.25 * MS, rel=0.05)


def test_samples_make_a_distribution_between_the_least_and_the_most() -> None:
    drawn = Empirical.of_samples([30, 10, 20])
    assert drawn.values_ns == (10, 20, 30)
    assert quantile(drawn, 0.5) == pytest.approx(20, abs=1)
    assert Empirical.of_samples([7]).draw(Random(0)) == 7


@pytest.mark.parametrize(
    ("quantiles", "problem"),
    [
        ({0.5: 1}, "two or more"),
        ({0.1: 1, 1.0: 2}, "from 0 to 1"),
        ({0.0: 1, 0.9: 2}, "from 0 to 1"),
        ({0.0: 3, 1.0: 2}, "nor fall"),
        ({0.0: -1, 1.0: 2}, "negative"),
        ({}, "two or more"),
    ],
)
def test_points_that_make_no_distribution_are_refused(quantiles: dict[float, int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Empirical.of_quantiles(quantiles)


def test_no_samples_make_no_distribution() -> None:
    with pytest.raises(ValueError, match="two or more"):
        Empirical.of_samples([])
