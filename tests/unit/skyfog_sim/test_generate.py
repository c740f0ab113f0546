"""Generated markets have the statistics of the recorded ones; see skyfog_sim.generate for both."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, median

import pytest

from skyfog_core.units import S
from skyfog_sim.generate import MarketModel, generate
from skyfog_sim.market import MarketTrace, Steps
from skyfog_sim.market_stats import DAY_NS, ZoneStats, stats, together, zone_stats

MODEL = MarketModel(days=10)


@pytest.fixture(scope="module")
def markets() -> list[MarketTrace]:
    return [generate(MODEL, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def zones(markets: list[MarketTrace]) -> list[ZoneStats]:
    return [one for market in markets for one in stats(market)]


def test_zones_are_as_often_and_as_long_without_machines_as_recorded_ones(zones: list[ZoneStats]) -> None:
    assert 0.4 < fmean(zone.available for zone in zones) < 0.7  # recorded: 0.55
    assert min(zone.available for zone in zones) < 0.25
    assert max(zone.available for zone in zones) > 0.85
    assert 3.0 < median(zone.outages_per_day for zone in zones) < 7.0  # 4.8
    assert 0.3 < median(zone.up_median_h for zone in zones) < 1.2  # 0.62
    assert 1.3 < median(zone.up_mean_h for zone in zones) < 4.5  # 2.3
    assert 0.25 < median(zone.down_median_h for zone in zones) < 1.0  # 0.46
    assert 1.0 < median(zone.down_mean_h for zone in zones) < 3.8  # 1.8
    assert 0.02 < median(zone.between for zone in zones) < 0.12  # 0.04


def test_zones_of_a_region_fail_together_and_regions_do_not(markets: list[MarketTrace]) -> None:
    assert 0.35 < fmean(together(market, same_region=True) or 0 for market in markets) < 0.6  # recorded: 0.48
    assert abs(fmean(together(market, same_region=False) or 0 for market in markets)) < 0.1


def test_capacity_is_whole_machines_up_to_the_most(markets: list[MarketTrace]) -> None:
    values = {value for market in markets for zone in market.zones for value in zone.spot_capacity.values}
    assert values == set(range(MODEL.machines + 1))


def test_prices_move_slowly_around_a_level_of_their_own(markets: list[MarketTrace]) -> None:
    for market in markets:
        for zone in market.zones:
            price = zone.spot_price
            assert min(price.values) / zone.on_demand_price > 0.2
            assert max(price.values) / zone.on_demand_price < 0.55
            assert 5 < len(price.values) < 45  # about two changes a day
            assert all(abs(after / before - 1) < 0.05 for _, before, after in price.changes())


def test_one_seed_gives_one_market_and_another_seed_another() -> None:
    short = replace(MODEL, days=1)
    assert generate(short, 5) == generate(short, 5)
    assert generate(short, 5).zones != generate(short, 6).zones


def test_a_region_more_leaves_the_others_as_they_were() -> None:
    short = replace(MODEL, days=1)
    assert generate(replace(short, regions=2), 5).zones == generate(short, 5).zones[:6]


def test_the_measures_of_a_zone_by_hand() -> None:
    hour = 3_600 * S
    capacity = Steps((0, 6 * hour, 8 * hour, 9 * hour, 21 * hour), (4, 2, 0, 4, 0))
    found = zone_stats("z", capacity, DAY_NS)
    assert found.available == pytest.approx(20 / 24)
    assert found.between == pytest.approx(2 / 24)
    assert found.outages_per_day == 2
    assert (found.up_mean_h, found.down_mean_h, found.down_median_h) == (10, 2, 2)
