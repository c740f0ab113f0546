"""The omniscient optimum is what trying everything finds, and a bound that can be reached."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfog_core.units import S
from skyfog_pool.policy.market import Zone
from skyfog_sim.market import MarketTrace, Steps, ZoneMarket, steps

pytest.importorskip("highspy", reason="the extra `bench` is not installed")

from skyfog_bench.pool.omniscient import omniscient

UNIT = 3_600 * S


def market(capacities: Sequence[Steps], prices: Sequence[Steps], length: int, on_demand: float) -> MarketTrace:
    zones = [
        ZoneMarket(Zone(f"z{i}"), capacity, price, on_demand)
        for i, (capacity, price) in enumerate(zip(capacities, prices, strict=True))
    ]
    return MarketTrace("m", tuple(zones), length)


def tried(capacities: Sequence[Sequence[int]], prices: Sequence[Sequence[int]], target: int, on_demand: int) -> float:
    """The least over all whole numbers of machines in whole units of time; an order and a warm-up take one each."""
    length = len(capacities[0])
    most = [[0 if k == 0 else min(capacity[k - 1], capacity[k]) for k in range(length)] for capacity in capacities]
    most.append([0] + [target] * (length - 1))
    cost_of = [*prices, [on_demand] * length]
    best: dict[tuple[int, ...], float] = {(0,) * len(most): 0.0}
    for k in range(length):
        after: dict[tuple[int, ...], float] = {}
        for running in product(*(range(zone[k] + 1) for zone in most)):
            usd = sum(count * cost[k] for count, cost in zip(running, cost_of, strict=True))
            for before, paid in best.items():
                ready = sum(min(a, b) for a, b in zip(before, running, strict=True))
                if k >= 2 and ready < target:
                    continue
                if paid + usd < after.get(running, float("inf")):
                    after[running] = paid + usd
        best = after
    return min(best.values())


@st.composite
def small(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]], int, int]:
    zones, length, target = draw(st.integers(1, 2)), draw(st.integers(3, 6)), draw(st.integers(1, 2))

    def series(least: int, most: int) -> list[int]:
        return draw(st.lists(st.integers(least, most), min_size=length, max_size=length))

    return [series(0, 2) for _ in range(zones)], [series(1, 4) for _ in range(zones)], target, draw(st.integers(3, 9))


@settings(max_examples=60)
@given(small())
def test_it_is_what_trying_everything_finds(case: tuple[list[list[int]], list[list[int]], int, int]) -> None:
    capacities, prices, target, on_demand = case
    length = len(capacities[0])
    traced = market([steps(c, UNIT) for c in capacities], [steps(p, UNIT) for p in prices], length * UNIT, on_demand)
    found = omniscient(traced, target, provision_ns=UNIT, warm_up_ns=UNIT, grace_ns=2 * UNIT)
    assert found.usd == pytest.approx(tried(capacities, prices, target, on_demand))


@settings(max_examples=20)
@given(small(), st.integers(60, 3_000), st.integers(60, 3_000))
def test_the_bound_can_be_reached(
    case: tuple[list[list[int]], list[list[int]], int, int], provision_s: int, warm_up_s: int
) -> None:
    capacities, prices, target, on_demand = case
    traced = market(
        [steps(c, UNIT) for c in capacities], [steps(p, UNIT) for p in prices], len(prices[0]) * UNIT, on_demand
    )
    grace = (provision_s + warm_up_s) * S
    bound = omniscient(traced, target, provision_ns=provision_s * S, warm_up_ns=warm_up_s * S, grace_ns=grace)
    reached = omniscient(
        traced, target, provision_ns=provision_s * S, warm_up_ns=warm_up_s * S, grace_ns=grace, achievable=True
    )
    assert bound.usd <= reached.usd * (1 + 1e-9)
    assert reached.usd <= bound.usd * 1.02
