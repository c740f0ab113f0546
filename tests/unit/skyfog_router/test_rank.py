"""Who is asked first, under each rule."""

from __future__ import annotations

from collections import Counter

import pytest
from unit.skyfog_router.policies import Taught, fleet_of, key

from skyfog_core.units import MS
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Load
from skyfog_router.policy.rank import MOST_RANKED, order


def ranked(made: Taught, affinity: bytes = b"") -> list[str]:
    found = order(made.fleet, list(made.fleet.replicas.values()), affinity, made.now_ns)
    return [str(replica.key) for replica in found]


def taught(rank: str, zone: str = "", names: tuple[str, ...] = ("a/0", "b/0", "c/0"), **config: float) -> Taught:
    """c answers in 10 ms, b in 20, a in 30."""
    made = Taught(fleet_of(*names, zone=zone, rank=rank, **config))
    for name, took_ms in zip(names, (30, 20, 10), strict=False):
        made.answers(name, took_ms, times=20, load=Load(service_ns=5 * MS))
    return made


def test_peak_ewma_takes_the_fastest_times_what_it_has_to_do() -> None:
    made = taught("peak_ewma")
    assert ranked(made) == ["c/0", "b/0", "a/0"]
    made.ask("c/0")
    made.ask("c/0")
    assert ranked(made)[0] == "b/0", "20 * 1 < 10 * 3"


def test_quantile_takes_the_tail_and_the_queue() -> None:
    made = taught("quantile", slo_target=0.9)
    assert ranked(made) == ["c/0", "b/0", "a/0"]
    made.answers("c/0", 200, times=5)
    assert ranked(made) == ["b/0", "a/0", "c/0"], "its median is as good as ever"
    made.answers("b/0", 20, load=Load(service_ns=5 * MS, queue_depth=4, running=1))
    assert ranked(made) == ["a/0", "b/0", "c/0"]


def test_quantile_takes_whoever_has_none_last() -> None:
    made = taught("quantile")
    made.fleet.pool.never(made.now_ns)
    for _ in range(3):
        made.given_up("c/0", 400)
        made["c/0"].health.on_sign_of_life(made.now_ns)
    assert ranked(made)[-1] == "c/0"


def test_least_in_flight_counts_by_capacity_and_breaks_ties_by_latency() -> None:
    made = taught("least_in_flight")
    assert ranked(made) == ["c/0", "b/0", "a/0"]
    made["a/0"].said = Announcement(capacity=4)
    for name in ("a/0", "b/0", "b/0", "c/0"):
        made.ask(name)
    assert ranked(made) == ["a/0", "c/0", "b/0"]


def test_zone_aware_takes_its_own_zone_first() -> None:
    assert ranked(taught("zone_aware", zone="a")) == ["a/0", "c/0", "b/0"]
    assert ranked(taught("zone_aware")) == ["c/0", "b/0", "a/0"]


def priced(slo_ms: int = 0, **prices: float) -> Taught:
    made = taught("price_aware", slo_ms=slo_ms)
    for zone, price in prices.items():
        made.fleet.join(key(f"{zone}/0"), Announcement(price_per_hour=price), made.now_ns)
    return made


def test_price_aware_takes_the_cheapest_request() -> None:
    made = priced(a=1.0, b=2.0, c=3.0)
    assert ranked(made) == ["a/0", "b/0", "c/0"]
    made.fleet.join(key("c/0"), Announcement(price_per_hour=3.0, capacity=4), made.now_ns)
    assert ranked(made) == ["c/0", "a/0", "b/0"], "four at once share the price"


def test_price_aware_takes_the_cheapest_that_is_in_time() -> None:
    assert ranked(priced(slo_ms=25, a=1.0, b=2.0, c=3.0)) == ["b/0", "c/0", "a/0"]


def test_a_price_that_was_not_told_is_the_highest_also_of_a_replica_that_is_not_known() -> None:
    made = priced(a=1.0, b=2.0)
    made.fleet.join(key("d/0"), Announcement(), made.now_ns)
    assert ranked(made)[:2] == ["a/0", "b/0"]


@pytest.mark.parametrize(
    "rank", ["peak_ewma", "quantile", "p2c", "least_in_flight", "zone_aware", "price_aware", "sticky"]
)
def test_the_suspect_come_last(rank: str) -> None:
    made = taught(rank, zone="c")
    for name in "ab":
        made.fleet.join(key(f"{name}/0"), Announcement(price_per_hour=9.0), made.now_ns)
    made.fleet.join(key("c/0"), Announcement(price_per_hour=0.1), made.now_ns)
    made.fails("c/0")
    for number in range(20):
        assert ranked(made, bytes([number]))[-1] == "c/0"


def test_sticky_stays_with_one_replica_whatever_becomes_of_others() -> None:
    names = tuple(f"a/{i}" for i in range(40))
    made = Taught(fleet_of(*names, rank="sticky"))
    clients = [number.to_bytes(2, "big") for number in range(300)]
    before = {client: ranked(made, client)[0] for client in clients}
    shares = Counter(before.values())
    assert len(shares) == 40
    assert max(shares.values()) < 30, "evenly enough"
    made.fleet.leave(key("a/7"))
    made.fleet.join(key("b/0"), Announcement(), 0)
    after = {client: ranked(made, client)[0] for client in clients}
    moved = {client for client in clients if before[client] != after[client]}
    assert all(before[client] == "a/7" or after[client] == "b/0" for client in moved)
    assert sum(before[client] == "a/7" for client in clients) <= len(moved) < 40


def test_p2c_prefers_the_less_loaded_of_two_and_sends_the_busiest_nothing() -> None:
    made = Taught(fleet_of("a/0", "b/0", "c/0", "d/0", rank="p2c"))
    for name, busy in (("a/0", 5), ("b/0", 1)):
        for _ in range(busy):
            made.ask(name)
    first = Counter(ranked(made)[0] for _ in range(600))
    assert first["a/0"] == 0
    assert first["b/0"] == pytest.approx(100, abs=35), "only where it is drawn with a"
    assert first["c/0"] == pytest.approx(first["d/0"], abs=70)


def test_of_many_a_sample_is_ranked_and_the_last_winner() -> None:
    names = tuple(f"a/{i:03}" for i in range(4 * MOST_RANKED))
    made = Taught(fleet_of(*names))
    made.answers("a/040", 1)
    made.fleet.last_winner = key("a/040")
    seen = set()
    for _ in range(50):
        found = ranked(made)
        assert "a/040" in found
        assert MOST_RANKED <= len(found) == len(set(found)) <= MOST_RANKED + 1
        seen |= set(found)
    assert len(seen) == len(names), "another sample each time"


def test_a_winner_that_may_not_be_asked_is_not_ranked() -> None:
    names = tuple(f"a/{i:03}" for i in range(2 * MOST_RANKED))
    made = Taught(fleet_of(*names))
    made.fleet.last_winner = key("a/001")
    free = [replica for replica in made.fleet.remote() if replica.key != key("a/001")]
    assert made["a/001"] not in order(made.fleet, free, b"", 0)
