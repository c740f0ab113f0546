"""Who goes when there are too many."""

from __future__ import annotations

from typing import Any

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.drain import surplus
from skyfog_pool.policy.view import Replica, View
from support.kind_cloud import PRICES, ZONES


def gone(count: int, *replicas: tuple[str, dict[str, Any]]) -> list[int]:
    all_of = [Replica(i, zone, "spot", 1, **({"state": State.READY, "since_ns": 0, "launched_ns": i} | more))
              for i, (zone, more) in enumerate(replicas)]  # fmt: skip
    view = View(1, all_of, {zone.name: zone for zone in ZONES}, PRICES, ReplicaPolicyConfig(), True)
    return [replica.id for replica in surplus(view, all_of, count)]


def test_launches_first_then_what_does_not_answer() -> None:
    assert gone(2, ("a", {}), ("a", {"state": State.NOT_READY}), ("a", {"state": State.STARTING})) == [2, 1]


def test_the_costliest_then_the_slowest_then_the_youngest() -> None:
    assert gone(1, ("a", {"price_per_hour": 2.0}), ("a", {"price_per_hour": 1.0, "latency_ms": 90.0})) == [0]
    assert gone(1, ("a", {"latency_ms": 90.0}), ("a", {"latency_ms": 10.0}), ("a", {})) == [0]
    assert gone(2, ("a", {}), ("a", {}), ("a", {})) == [2, 1]


def test_never_the_last_of_a_zone_while_another_has_more_than_one() -> None:
    assert gone(1, ("a", {"price_per_hour": 9.0}), ("b", {}), ("b", {})) == [2]
    assert gone(2, ("a", {"price_per_hour": 9.0}), ("b", {}), ("b", {})) == [2, 0]


def test_who_leaves_already_is_not_chosen() -> None:
    assert gone(2, ("a", {"state": State.DRAINING}), ("a", {})) == [1]
