"""The published strategies and the baselines, zone by zone."""

from __future__ import annotations

import json
from math import inf

import pytest

from skyfog_pool.policy.market import LaunchFailed, Lost, Notice, Prices
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.spothedge import DynamicFallback, SpotHedge
from support.kind_cloud import PRICES, ZONES, KindCloud, ended, launches


def test_spothedge_spreads_over_zones_by_price_and_over_provisions() -> None:
    cloud = KindCloud("spothedge", min_replicas=3)
    assert launches(cloud.asked) == [
        *[("a", "spot"), ("b", "spot"), ("c", "spot"), ("a", "spot")],  # N_tar + N_extra
        *[("a", "on_demand"), ("b", "on_demand"), ("a", "on_demand")],  # O(t) = min(N_tar, N_tar + N_extra - ready)
    ]
    cloud.ready()
    assert cloud.where() == ["a", "a", "b", "c"]


def test_spothedge_holds_on_demand_while_spot_is_not_ready() -> None:
    cloud = KindCloud("spothedge", min_replicas=2, num_overprovision=1)
    cloud.ready()
    actions = cloud.do("on_preempted", 1)
    assert sorted(launches(actions)) == [("a", "on_demand"), ("b", "spot")], "a preempted just now, b is next in price"
    cloud.ready()
    assert len(cloud.where()) == 3
    assert all(zone.islower() for zone in cloud.where())


def test_spothedge_forgives_all_zones_when_fewer_than_two_are_left() -> None:
    hedge = SpotHedge(ZONES)
    hedge.observe(Lost("a", 1, False), 0)
    assert hedge.snapshot(0) == {"preempting": ["a"]}
    hedge.observe(LaunchFailed("b", "spot", "capacity"), 0)
    assert hedge.snapshot(0) == {"preempting": []}


@pytest.mark.parametrize("placement", ["spothedge", "dynamic_fallback"])
def test_the_back_off_after_refusals_delays_the_next_zone_and_does_not_change_it(placement: str) -> None:
    cloud = KindCloud(placement, 1)
    assert launches(cloud.do("on_launch_failed", 1, "capacity")) == [("b", "spot")]
    assert not launches(cloud.do("on_launch_failed", 2, "capacity")), "all are forgiven: it is the cheapest again"
    assert "a (spot)" in cloud.policy.holding
    assert launches(cloud.wait(20)) == [("a", "spot")]


def test_a_zone_that_refuses_for_another_reason_is_passed_over() -> None:
    cloud = KindCloud("dynamic_fallback", 1)
    assert launches(cloud.do("on_launch_failed", 1, "rejected")) == [("b", "spot")]
    assert launches(cloud.do("on_launch_failed", 2, "rejected")) == [("c", "spot")]


@pytest.mark.parametrize(("placement", "marked"), [(SpotHedge, []), (DynamicFallback, ["a"])])
def test_only_skypilot_takes_any_failure_to_launch_for_a_preemption(
    placement: type[SpotHedge], marked: list[str]
) -> None:
    hedge = placement(ZONES)
    hedge.observe(LaunchFailed("a", "spot", "error"), 0)
    assert hedge.snapshot(0)["preempting"] == marked


def test_skypilot_s_variant_takes_the_base_off_the_spot_target() -> None:
    cloud = KindCloud("dynamic_fallback", min_replicas=4, base_ondemand_fallback_replicas=1, num_overprovision=1)
    cloud.ready()
    assert cloud.where() == ["A", "a", "a", "b", "c"]
    assert len(launches(cloud.asked)) == 4 + 4, "target + over - base, and min(base + spot that is not ready, target)"


def test_skypilot_s_variant_keeps_the_prices_of_its_first_look() -> None:
    cloud = KindCloud("dynamic_fallback", min_replicas=1, dynamic_ondemand_fallback=False)
    cloud.do("on_prices", {"a": Prices(9.0, 1.0)})
    cloud.ready()
    cloud.do("on_failed", 1, "FAILED")
    assert cloud.where() == ["a"]


def test_even_spread_stays_where_it_is() -> None:
    cloud = KindCloud("even_spread", min_replicas=3)
    cloud.ready()
    assert cloud.where() == ["a", "b", "c"]
    assert launches(cloud.do("on_preempted", 2)) == [("b", "spot")]
    assert launches(cloud.do("on_launch_failed", 4, "capacity")) == []
    assert launches(cloud.wait(60)) == [("b", "spot")]


def test_round_robin_goes_on_to_the_next_zone() -> None:
    cloud = KindCloud("round_robin", min_replicas=4)
    assert launches(cloud.asked) == [("a", "spot"), ("b", "spot"), ("c", "spot"), ("a", "spot")]
    cloud.ready()
    assert launches(cloud.do("on_preempted", 1)) == [("b", "spot")]


def test_asg_holds_a_fixed_part_on_demand_and_replaces_what_is_at_risk() -> None:
    cloud = KindCloud("asg", min_replicas=4)
    cloud.ready()
    assert cloud.where() == ["A", "a", "b", "c"]
    risky = next(who for who in cloud.policy.replicas.values() if who.zone == "b")
    actions = cloud.do("on_notice", risky.id, Notice("rebalance"))
    assert launches(actions) == [("b", "spot")]
    assert not ended(actions)
    assert ended(cloud.do("on_ready", 5)) == [risky.id]


def test_on_demand_only() -> None:
    cloud = KindCloud("on_demand", min_replicas=3)
    cloud.ready()
    assert cloud.where() == ["A", "A", "B"]


@pytest.mark.parametrize("placement", sorted(PLACEMENTS))
def test_without_any_offer_nothing_is_launched_and_with_one_everything(placement: str) -> None:
    cloud = KindCloud(placement, min_replicas=2, prices={"a": Prices(inf, inf)})
    assert not cloud.asked
    assert cloud.policy.holding == "no zone offers a machine"
    cloud.do("on_prices", PRICES)
    cloud.ready()
    assert cloud.policy.view().ready() >= 2


@pytest.mark.parametrize("placement", sorted(PLACEMENTS))
def test_a_constant_world_comes_to_rest(placement: str) -> None:
    cloud = KindCloud(placement, min_replicas=3)
    cloud.ready()
    asked = len(cloud.asked)
    cloud.wait(86_400)
    for _ in range(3):
        cloud.do("on_prices", PRICES)
    assert len(cloud.asked) == asked


@pytest.mark.parametrize("placement", sorted(PLACEMENTS))
def test_what_was_learnt_survives_as_json(placement: str) -> None:
    cloud = KindCloud(placement, min_replicas=3)
    cloud.ready()
    cloud.do("on_preempted", min(cloud.policy.replicas))
    state = json.loads(json.dumps(cloud.policy.placement.snapshot(cloud.now_ns)))
    other = PLACEMENTS[placement](ZONES)
    other.restore(state, 0)
    assert other.snapshot(0) == state
