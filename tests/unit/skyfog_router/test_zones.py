"""Whether the replicas of a zone are slow together, and what that does to the chance that all copies miss."""

from __future__ import annotations

from random import Random

import pytest

from skyfog_core.units import MS, S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router.policy.zones import PRIOR, WINDOW_NS, Zones

A, B = ReplicaKey("z", "a"), ReplicaKey("z", "b")


def watched(together: float, pairs: int = 3_000, apart_ns: int = 10 * MS, seed: int = 1) -> Zones:
    """A tenth of the answers are slow; with the chance `together` both replicas have one fate."""
    random, zones = Random(seed), Zones()
    for number in range(pairs):
        slow = random.random() < 0.1
        other = slow if random.random() < together else random.random() < 0.1
        now_ns = number * 10 * S
        zones.observe(A, slow, now_ns)
        zones.observe(B, other, now_ns + apart_ns)
    return zones


def test_rho_is_near_1_where_replicas_are_slow_together() -> None:
    assert watched(together=1.0).rho("z") > 0.8


def test_rho_is_near_0_where_they_are_slow_independently() -> None:
    assert watched(together=0.0).rho("z") < 0.12


def test_rho_is_between_where_they_share_half_of_their_fates() -> None:
    assert 0.3 < watched(together=0.5).rho("z") < 0.65


def test_little_known_is_little_believed() -> None:
    zones = Zones()
    assert zones.rho("z") == PRIOR
    zones.observe(A, False, 0)
    zones.observe(A, True, 1)
    zones.observe(B, True, 2)
    assert PRIOR < zones.rho("z") < PRIOR + 0.1
    assert zones.rho("elsewhere") == PRIOR


def test_what_lies_far_apart_or_is_of_the_same_replica_tells_nothing() -> None:
    assert watched(together=1.0, apart_ns=WINDOW_NS + 1).rho("z") == PRIOR
    zones = Zones()
    for number in range(100):
        zones.observe(A, number % 10 == 0, number)
    assert zones.rho("z") == PRIOR


def test_where_all_are_slow_there_is_nothing_to_compare() -> None:
    zones = Zones()
    for number in range(20):
        zones.observe((A, B)[number % 2], True, number)
    assert zones.rho("z") == PRIOR


def test_all_miss_by_hand() -> None:
    zones = Zones()
    assert zones.all_miss([]) == 1.0
    assert zones.all_miss([("a", 0.3)]) == 0.3
    assert zones.all_miss([("a", 0.3), ("b", 0.2)]) == pytest.approx(0.06)
    assert zones.all_miss([("a", 0.3), ("a", 0.2)]) == pytest.approx(0.8 * 0.06 + 0.2 * 0.2)
    both = (1 - PRIOR) * 0.3 * 0.2 + PRIOR * 0.2
    assert zones.all_miss([("a", 0.3), ("b", 0.1), ("a", 0.2)]) == pytest.approx(both * 0.1)
    assert zones.all_miss([("a", 0.3), ("a", 1.0)]) == pytest.approx(0.3)


def test_one_more_in_a_zone_of_its_own_helps_more_than_beside_another() -> None:
    zones = watched(together=1.0)
    under_way = [("z", 0.1), ("y", 0.5)]
    assert zones.with_one_more(under_way, "x")(0.1) < zones.with_one_more(under_way, "z")(0.1)
