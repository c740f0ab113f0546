"""The probability that a frame is in time, against arithmetic by hand."""

from __future__ import annotations

import pytest

from skyfog_uplink.policy.link import LEVELS, LinkState
from skyfog_uplink.policy.model import Distribution, Option, constant
from skyfog_uplink.policy.odds import Odds, slower
from support.uplink import link, option, service, table

RATES = (1e6, 1.2e6, 1.5e6, 2e6, 3e6, 4e6, 5e6, 6e6, 8e6, 10e6)


def odds(left_ms: float, to_go: int, state: LinkState, ahead: int = 0, wait_ms: float = 0.0) -> float:
    return Odds(table()).in_time("a", 0, left_ms, to_go, ahead, wait_ms, state)


def test_on_a_link_that_is_known_it_is_yes_or_no() -> None:
    # 10,000 bytes at 8 Mbit/s 10 ms, round trip 40 ms, cloud 20 ms
    assert odds(70.1, 10_000, link(8e6, 40)) == pytest.approx(0.9, abs=0.1 + 1e-9)
    assert odds(69.9, 10_000, link(8e6, 40)) < 0.1
    assert odds(140, 10_000, link(8e6, 40)) > 0.98
    assert odds(59, 1, link(8e6, 40)) == 0.0


def test_what_is_in_flight_is_ahead_but_for_what_has_passed_the_bottleneck() -> None:
    state = link(8e6, 40)  # 40,000 bytes in flight fill the round trip
    assert odds(75, 10_000, state, ahead=40_000) == pytest.approx(odds(75, 10_000, state), abs=0.01)
    assert odds(75, 10_000, state, ahead=60_000) < 0.1, "20,000 of them wait for 20 ms"
    assert odds(110, 10_000, state, ahead=60_000) > 0.9


def test_the_bucket_may_be_what_holds_it_back() -> None:
    assert odds(100, 10_000, link(8e6, 40), wait_ms=39) > 0.9
    assert odds(100, 10_000, link(8e6, 40), wait_ms=41) == 0.0


def test_an_uncertain_rate_counts_by_its_quantiles() -> None:
    state = LinkState(0, True, RATES, (40.0,) * 4, 40.0, 40.0)
    # 80,000 bits in 40 ms need 2 Mbit/s, which is the quantile 0.1
    assert odds(100, 10_000, state) == pytest.approx(0.9)


def test_an_uncertain_cloud_and_round_trip_count_too() -> None:
    slow = Option("o", "m", 0.6, constant(0), constant(0), Distribution((20.0, 100.0), (0.9, 0.1)))
    both = Odds(table(service("a", 150, 10, slow)))
    assert both.in_time("a", 0, 100.0, 1, 0, 0.0, link(8e6, 40)) == pytest.approx(0.9, abs=0.01)
    tail = LinkState(0, True, (8e6,) * 10, (40.0, 40.0, 40.0, 90.0), 40.0, 40.0)
    assert odds(100, 1_000, tail) == pytest.approx(0.9, abs=0.01)


def test_a_link_without_any_rate_gives_no_odds() -> None:
    assert odds(1_000, 1, link(0.0, 40)) == 0.0


def test_slower_runs_through_the_quantiles_and_ends_at_one() -> None:
    assert [slower(RATES, rate) for rate in RATES] == pytest.approx(list(LEVELS))
    assert slower(RATES, 0) == 0.0
    assert slower(RATES, 0.5e6) == pytest.approx(0.005)
    assert slower(RATES, 2.5e6) == pytest.approx(0.15)
    assert slower(RATES, 15e6) == 1.0
    grid = [slower(RATES, at * 1e5) for at in range(200)]
    assert grid == sorted(grid)


def test_the_odds_remember_a_bounded_number_of_round_trips() -> None:
    of = Odds(table(service("a", 150, 10, option())))
    for rtt_ms in range(2_000):
        of.in_time("a", 0, 100.0, 1, 0, 0.0, link(8e6, float(rtt_ms)))
    assert len(of._rests) <= 512
