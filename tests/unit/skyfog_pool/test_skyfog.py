"""Our placement, one behaviour at a time."""

from __future__ import annotations

import itertools
import json

import pytest

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.learnt import Learnt
from skyfog_pool.policy.market import Lost, Notice, Noticed, Prices
from skyfog_pool.policy.skyfog import Skyfog
from support.kind_cloud import PRICES, ZONES, KindCloud, ended, launches

HOUR_S = 3_600.0


def settled(**config: object) -> KindCloud:
    """A pool of spot machines that has stood for a day, so that nothing is thought to be at risk."""
    cloud = KindCloud("skyfog", **({"min_replicas": 2, "num_overprovision": 0} | config))
    cloud.ready(183)
    for _ in range(24):
        cloud.wait(HOUR_S)
        cloud.ready()
    return cloud


def skyfog(cloud: KindCloud) -> Skyfog:
    assert isinstance(cloud.policy.placement, Skyfog)
    return cloud.policy.placement


def spot_in(cloud: KindCloud, zone: str) -> list[int]:
    return [who.id for who in cloud.policy.replicas.values() if who.zone == zone and who.market == "spot"]


def test_the_cheapest_zone_is_taken_where_nothing_speaks_against_it() -> None:
    assert set(launches(KindCloud("skyfog", min_replicas=1, num_overprovision=0).asked)) == {("a", "spot")}


def test_without_spot_the_pool_is_on_demand() -> None:
    cloud = KindCloud("skyfog", min_replicas=2, use_spot=False)
    cloud.ready()
    assert cloud.where() == ["A", "A"]


def test_spot_that_costs_as_much_as_on_demand_is_not_taken() -> None:
    cloud = KindCloud("skyfog", min_replicas=1, prices={"a": Prices(1.0, 1.0)})
    cloud.ready()
    assert cloud.where() == ["A"]


def test_a_notice_is_answered_at_once_by_spot_elsewhere_and_on_demand_and_the_loser_is_cancelled() -> None:
    cloud = settled()
    lost = spot_in(cloud, "a")[0]
    actions = cloud.do("on_notice", lost, Notice("interruption", cloud.now_ns + 120 * S))
    asked = launches(actions)
    assert any(market == "spot" and zone != "a" for zone, market in asked), asked
    assert any(market == "on_demand" for _, market in asked), asked
    spot = [who for who in cloud.policy.replicas.values() if who.market == "spot" and who.is_launching]
    on_demand = {who.id for who in cloud.policy.replicas.values() if who.market == "on_demand"}
    cloud.now_ns += 700 * S  # nothing else was lost
    for who in spot:
        cloud.do("on_provisioning", who.id)
        actions = cloud.do("on_started", who.id)
    assert set(ended(actions)) & on_demand, "ordered on demand machines are given up once the spot machine runs"


def test_one_loss_puts_the_others_of_its_zone_at_risk() -> None:
    cloud = settled(min_replicas=4, num_overprovision=None)
    zone = max("abc", key=lambda name: len(spot_in(cloud, name)))
    held = len(spot_in(cloud, zone))
    assert held >= 2
    asked = launches(cloud.do("on_preempted", spot_in(cloud, zone)[0]))
    elsewhere = [place for place in asked if place != (zone, "spot")]
    assert len(elsewhere) >= 4, "all are replaced, not only the one that was lost"


def test_a_zone_with_a_recent_loss_is_avoided_and_asked_again_later() -> None:
    cloud = settled(min_replicas=1)
    actions = cloud.do("on_preempted", spot_in(cloud, "a")[0])
    assert ("a", "spot") not in launches(actions)
    assert ("b", "spot") in launches(actions)


def test_refusals_are_waited_out_longer_and_longer() -> None:
    cloud = KindCloud("skyfog", min_replicas=1, num_overprovision=0, prices={"a": PRICES["a"]})
    asked_ns = []
    for _ in range(400):
        orders = [who.id for who in cloud.policy.replicas.values() if who.market == "spot" and who.is_launching]
        if orders:
            asked_ns.append(cloud.now_ns)
        for replica in orders:
            cloud.do("on_provisioning", replica)
            cloud.do("on_launch_failed", replica, "capacity")
        cloud.ready()
        cloud.wait(30)
    waits = [later - sooner for sooner, later in itertools.pairwise(asked_ns)]
    assert len(waits) > 5
    assert waits[-1] > 2 * waits[1]
    assert max(waits) <= 11 * 60 * S
    assert cloud.where() == ["A"], "on demand stands in meanwhile"


def test_a_risky_market_is_answered_with_spares_and_a_calm_one_is_not() -> None:
    calm, risky = settled(min_replicas=3, num_overprovision=None), settled(min_replicas=3, num_overprovision=None)
    for _ in range(12):  # every half hour one is lost
        risky.do("on_preempted", min(who.id for who in risky.policy.replicas.values() if who.is_ready))
        risky.ready(183)
        risky.wait(HOUR_S / 2)
        risky.ready()
    for cloud in (calm, risky):
        cloud.wait(5)
    assert len(risky.where()) > len(calm.where())


def test_num_overprovision_is_respected() -> None:
    assert len(settled(min_replicas=2, num_overprovision=2).where()) == 4


def test_base_on_demand_replicas_are_always_there() -> None:
    assert settled(min_replicas=3, base_ondemand_fallback_replicas=1).where()[0] in "ABC"


def test_without_fallback_nothing_is_on_demand() -> None:
    cloud = settled(dynamic_ondemand_fallback=False)
    cloud.do("on_preempted", spot_in(cloud, "a")[0])
    cloud.ready()
    assert all(zone.islower() for zone in cloud.where())


def test_a_replica_at_risk_is_replaced_before_it_goes() -> None:
    cloud = settled(min_replicas=1)
    at_risk = spot_in(cloud, "a")[0]
    actions = cloud.do("on_notice", at_risk, Notice("rebalance"))
    assert launches(actions) == [("b", "spot")]
    assert not ended(actions)
    cloud.ready()
    assert cloud.where() == ["b"]


def test_machines_move_to_a_zone_that_became_much_cheaper_one_at_a_time() -> None:
    cloud = settled(min_replicas=2)
    cloud.do("on_prices", {"a": Prices(0.9, 1.0), "b": Prices(0.1, 1.0)})
    least = 2
    for _ in range(60):
        cloud.wait(120)
        cloud.ready()
        least = min(least, cloud.policy.view().ready())
    assert cloud.where() == ["b", "b"]
    assert least == 2, "never below target on the way"


def test_a_slow_zone_counts_as_dearer() -> None:
    cloud = settled(min_replicas=1, slo_ms=100.0, availability=0.95)
    cloud.policy.replicas[spot_in(cloud, "a")[0]].latency_ms = 600.0
    for _ in range(30):
        cloud.wait(120)
        cloud.ready()
    assert cloud.where() == ["b"]


def test_every_decision_says_why() -> None:
    cloud = settled()
    cloud.do("on_preempted", spot_in(cloud, "a")[0])
    cloud.ready()
    assert all(getattr(action, "because", "") for action in cloud.asked)


def test_a_restart_forgets_no_lifetimes() -> None:
    cloud = settled()
    cloud.do("on_preempted", spot_in(cloud, "a")[0])
    state = json.loads(json.dumps(skyfog(cloud).snapshot(cloud.now_ns)))
    other = Skyfog(ZONES)
    other.restore(state, 5 * S)
    old, new = skyfog(cloud).learnt.books["a"], other.learnt.books["a"]
    assert new.lifetimes.hazards(3) == pytest.approx(old.lifetimes.hazards(3))
    assert new.spot.ceiling == old.spot.ceiling
    assert other.snapshot(5 * S) == state


def test_same_events_same_decisions() -> None:
    histories = []
    for _ in range(2):
        cloud = settled(min_replicas=3)
        cloud.do("on_preempted", min(cloud.policy.replicas))
        cloud.ready(60)
        histories.append(cloud.asked)
    assert histories[0] == histories[1]


def test_what_is_believed_of_a_zone_is_told_and_a_loss_makes_it_worse() -> None:
    cloud = settled(min_replicas=1)
    before = skyfog(cloud).beliefs()
    assert set(before) == set(PRICES)
    assert "room for" not in before["a"]
    cloud.do("on_preempted", spot_in(cloud, "a")[0])
    after = skyfog(cloud).beliefs()
    assert "room for 0" in after["a"]
    assert after["a"].partition(",")[0] != before["a"]


def test_a_loss_costs_less_where_replicas_serve_on_after_their_notice() -> None:
    learnt = Learnt(ZONES)
    full_s = learnt.gap_s
    learnt.observe(Noticed("a", "interruption", serves_ns=110 * S), 0)
    assert learnt.gap_s == pytest.approx(full_s - 110)
    for _ in range(30):
        learnt.observe(Lost("b", 3_600 * S, noticed=False), 0)
    assert learnt.gap_s > full_s - 30, "losses that nobody told of count too"


def test_a_zone_that_fell_silent_as_a_whole_gets_no_replacements() -> None:
    cloud = settled(min_replicas=2)
    zone = next(name for name in "abc" if spot_in(cloud, name))
    there = spot_in(cloud, zone)
    for replica in there:
        cloud.do("on_not_ready", replica)
    asked = [place for replica in there for place in launches(cloud.do("on_failed", replica, State.FAILED_PROBING))]
    assert asked
    assert all(place != zone for place, _ in asked)


def test_with_min_zones_a_pool_stands_in_so_many_and_says_so() -> None:
    alone, spread = settled(min_replicas=3), settled(min_replicas=3, min_zones=2)
    assert len(set(alone.where())) == 1
    assert len(set(spread.where())) == 2
    assert settled(min_replicas=1, min_zones=2).where() == ["a"], "one replica cannot stand in two"


def test_with_min_zones_the_last_of_a_zone_stays_where_others_can_go() -> None:
    cloud = settled(min_replicas=4, min_zones=3)
    assert len(set(cloud.where())) == 3
    cloud.do("on_spec", ReplicaPolicyConfig(min_replicas=3, num_overprovision=0, min_zones=3), True, 1)
    cloud.ready()
    cloud.wait(HOUR_S)
    cloud.ready()
    assert sorted(cloud.where()) == ["a", "b", "c"]


def test_with_min_zones_a_pool_that_was_pushed_together_spreads_again() -> None:
    cloud = settled(min_replicas=2, num_overprovision=0, min_zones=2)
    (lost,) = spot_in(cloud, "b")
    cloud.do("on_prices", {"b": Prices(9.0, 9.0), "c": Prices(9.0, 9.0)})
    cloud.do("on_preempted", lost)
    cloud.ready(183)
    assert {zone.lower() for zone in cloud.where()} == {"a"}, "no other zone is worth it, or has any"
    cloud.do("on_prices", PRICES)
    for _ in range(6):
        cloud.wait(HOUR_S)
        cloud.ready()
    assert len({zone.lower() for zone in cloud.where()}) == 2


def test_with_min_zones_on_demand_replicas_are_spread_too() -> None:
    cloud = KindCloud("skyfog", min_replicas=2, min_zones=2, use_spot=False)
    assert sorted(zone for zone, _ in launches(cloud.asked)) == ["a", "b"]
