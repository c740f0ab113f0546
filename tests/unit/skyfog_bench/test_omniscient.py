"""The omniscient optimum: cases solved by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from skyfog_core.units import S
from skyfog_pool.policy.market import Zone
from skyfog_sim.market import MarketTrace, Steps, ZoneMarket, constant, steps

pytest.importorskip("highspy", reason="the extra `bench` is not installed")

from skyfog_bench.pool.omniscient import Optimum, omniscient

HOUR = 3_600 * S


def market(capacities: Sequence[Steps], prices: Sequence[Steps], length: int, on_demand: float = 3.0) -> MarketTrace:
    zones = [
        ZoneMarket(Zone(f"z{i}"), capacity, price, on_demand)
        for i, (capacity, price) in enumerate(zip(capacities, prices, strict=True))
    ]
    return MarketTrace("m", tuple(zones), length)


def optimum(traced: MarketTrace, target: int, provision: int = 0, warm_up: int = 0, grace: int = 0) -> Optimum:
    return omniscient(traced, target, provision_ns=provision, warm_up_ns=warm_up, grace_ns=grace)


def test_where_spot_is_always_there_it_is_all_that_is_paid() -> None:
    found = optimum(market([constant(4)], [constant(1.0)], 10 * HOUR), 2)
    assert found.usd == pytest.approx(2 * 10 * 1.0)
    assert found.spot_share == pytest.approx(1.0)


def test_what_spot_lacks_is_on_demand() -> None:
    found = optimum(market([constant(1)], [constant(1.0)], 10 * HOUR), 3)
    assert found.usd == pytest.approx(10 * (1.0 + 2 * 3.0))
    assert found.spot_share == pytest.approx(1 / 3)


def test_a_replacement_is_paid_for_while_it_warms_up() -> None:
    # Zone 0 ends at hour 4, and zone 1 begins at hour 0: its machine must run one hour ahead.
    traced = market([Steps((0, 4 * HOUR), (1, 0)), constant(1)], [constant(1.0), constant(2.0)], 10 * HOUR)
    found = optimum(traced, 1, warm_up=HOUR, grace=HOUR)
    assert found.usd == pytest.approx(4 * 1.0 + 7 * 2.0)


def test_a_gap_shorter_than_it_is_worth_is_bridged_by_the_dearer_machine() -> None:
    # One hour without spot: on demand runs for two, the one in which it warms up and the one in which it serves, and
    # a second hour passes until spot is ready again.
    traced = market([Steps((0, 4 * HOUR, 5 * HOUR), (1, 0, 1))], [constant(1.0)], 10 * HOUR)
    found = optimum(traced, 1, warm_up=HOUR, grace=HOUR)
    assert found.usd == pytest.approx(4 * 1.0 + 5 * 1.0 + 3 * 3.0)


def test_an_order_holds_a_place_while_it_is_provisioned() -> None:
    # The place is there from hour 2 to 4 only: with one hour of provisioning, the machine runs from 3 to 4.
    traced = market([Steps((0, 2 * HOUR, 4 * HOUR), (0, 1, 0))], [constant(1.0)], 6 * HOUR)
    found = optimum(traced, 1, provision=HOUR, grace=HOUR)
    assert found.usd == pytest.approx(4 * 3.0 + 1 * 1.0)


def test_a_machine_moves_to_where_it_is_cheaper_when_that_pays() -> None:
    dear_then_cheap = Steps((0, 5 * HOUR), (2.0, 1.0))
    cheap_then_dear = Steps((0, 5 * HOUR), (1.0, 2.0))
    traced = market([constant(1), constant(1)], [dear_then_cheap, cheap_then_dear], 10 * HOUR)
    assert optimum(traced, 1).usd == pytest.approx(10 * 1.0)
    # With an hour of warm-up at the cheap price of then (2.0) or later (1.0, beside 2.0): both cost 2 more or less.
    assert optimum(traced, 1, warm_up=HOUR, grace=HOUR).usd == pytest.approx(5 * 1.0 + 5 * 1.0 + 2.0)


def test_a_target_that_changes_is_followed() -> None:
    traced = market([constant(4)], [constant(1.0)], 10 * HOUR)
    wanted = Steps((0, 4 * HOUR, 6 * HOUR), (1, 3, 2))
    found = omniscient(traced, wanted, provision_ns=0, warm_up_ns=0, grace_ns=0)
    assert found.usd == pytest.approx(4 * 1 + 2 * 3 + 4 * 2)


def test_a_market_solved_in_parts_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    capacity = [int(i % 7 < 5) for i in range(60)]
    traced = market([steps(capacity, HOUR)], [constant(1.0)], 60 * HOUR)
    whole = optimum(traced, 1, warm_up=600 * S, grace=600 * S)
    monkeypatch.setattr("skyfog_bench.pool.omniscient.AT_ONCE", 10)
    parts = optimum(traced, 1, warm_up=600 * S, grace=600 * S)
    assert 0.97 * whole.usd < parts.usd <= whole.usd + 1e-6
    assert whole.pieces == parts.pieces > 10
