"""What is known of replicas: their queues, when they push back, their latency, and what is kept when they go."""

from __future__ import annotations

import math

import pytest
from unit.skyfog_router.policies import Taught, fleet_of, key

from skyfog_core.units import MS, S
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Load
from skyfog_router.policy.fleet import KNOWN, MOST_AWAY, STALE_NS
from skyfog_router.policy.health import State
from skyfog_router.policy.replica import TAU_NS, TRIAL_EVERY_NS

RUN = Load(service_ns=10 * MS)


def loaded(waiting: int, running: int = 1) -> Load:
    return Load(service_ns=10 * MS, queue_depth=waiting, running=running)


def test_a_replica_with_a_free_slot_makes_nobody_wait() -> None:
    made = Taught(fleet_of("a/0"))
    assert made["a/0"].wait_ns(0) == 0
    made.answers("a/0", 10, load=RUN)
    assert made["a/0"].wait_ns(made.now_ns) == 0
    made.ask("a/0")
    assert made["a/0"].wait_ns(made.now_ns) == 10 * MS


def test_the_wait_is_what_it_told_less_what_it_has_finished_since_and_what_was_sent_since() -> None:
    made = Taught(fleet_of("a/0"))
    made.answers("a/0", 10, load=loaded(waiting=3))
    assert made["a/0"].wait_ns(made.now_ns) == 40 * MS
    assert made["a/0"].wait_ns(made.now_ns + 25 * MS) == 15 * MS
    assert made["a/0"].wait_ns(made.now_ns + S) == 0
    made.ask("a/0")
    made.ask("a/0")
    assert made["a/0"].wait_ns(made.now_ns + S) == 20 * MS


def test_capacity_divides_the_wait() -> None:
    made = Taught(fleet_of())
    made.fleet.join(key("a/0"), Announcement(capacity=4), 0)
    made.answers("a/0", 10, load=loaded(waiting=4, running=4))
    assert made["a/0"].wait_ns(made.now_ns) == pytest.approx((8 - 4 + 1) * 10 * MS / 4)


def test_what_is_withdrawn_waits_there_no_longer() -> None:
    made = Taught(fleet_of("a/0"))
    made.answers("a/0", 10, load=RUN)
    made.given_up("a/0", 5, times=50)
    made.now_ns += S
    assert made["a/0"].wait_ns(made.now_ns) == 0


def test_the_time_in_its_queue_is_no_latency_of_the_replica() -> None:
    made = Taught(fleet_of("a/0"))
    made.answers("a/0", 50, times=10, load=Load(service_ns=10 * MS, queue_ns=40 * MS))
    assert made["a/0"].quantile(0.5) == pytest.approx(10 * MS, rel=0.04)


def test_who_pushes_back_is_not_fit_until_it_said_and_the_longest_counts() -> None:
    made = Taught(fleet_of("a/0", "b/0"))
    for retry_ms in (30, 10):
        made.fleet.on_refused(key("a/0"), made.ask("a/0"), Load(retry_after_ns=retry_ms * MS), 0)
    assert made.fleet.fit(30 * MS - 1) == [made["b/0"]]
    assert made.fleet.fit(30 * MS) == [made["a/0"], made["b/0"]]


def test_where_all_push_back_all_are_fit() -> None:
    made = Taught(fleet_of("a/0"))
    made.fleet.on_refused(key("a/0"), made.ask("a/0"), Load(retry_after_ns=S), 0)
    assert made.fleet.fit(MS) == [made["a/0"]]


def test_peak_ewma_rises_at_once_and_falls_slowly() -> None:
    made = Taught(fleet_of("a/0"))
    for _ in range(5):
        made.answers("a/0", 10)
    made.answers("a/0", 90)
    assert made["a/0"].peak_ewma_ns(made.now_ns) == 90 * MS
    made.answers("a/0", 10)
    share = math.exp2(-10 * MS / TAU_NS)
    assert made["a/0"].peak_ewma_ns(made.now_ns) == pytest.approx(90 * MS * share + 10 * MS * (1 - share))
    assert made["a/0"].peak_ewma_ns(made.now_ns + 8 * TAU_NS) == pytest.approx(45 * MS, rel=0.05)


def test_a_cold_start_is_forgiven_with_the_next_answer() -> None:
    made = Taught(fleet_of("a/0"))
    made.answers("a/0", 200)
    made.answers("a/0", 90)
    assert made["a/0"].peak_ewma_ns(made.now_ns) == pytest.approx(145 * MS)


def test_a_wait_in_vain_that_is_longer_than_the_peak_raises_it() -> None:
    made = Taught(fleet_of("a/0"))
    made.answers("a/0", 10)
    made.given_up("a/0", 5)
    assert made["a/0"].peak_ns < 11 * MS
    made.given_up("a/0", 70)
    assert made["a/0"].peak_ns == 70 * MS


def test_a_replica_that_comes_back_is_known_and_a_new_process_in_its_place_is_not() -> None:
    made = Taught(fleet_of())
    made.fleet.join(key("a/0"), Announcement(boot=1), 0)
    made.answers("a/0", 10, times=20)
    made.fleet.leave(key("a/0"))
    assert made.fleet.remote() == []
    made.fleet.join(key("a/0"), Announcement(boot=1, price_per_hour=2.0), made.now_ns)
    assert made["a/0"].sketch.count > 19
    assert made["a/0"].said.price_per_hour == 2.0
    made.fleet.join(key("a/0"), Announcement(boot=2), made.now_ns)
    assert (made["a/0"].sketch.count, made["a/0"].answered) == (0, 0)


def test_who_comes_back_is_as_healthy_as_it_was() -> None:
    made = Taught(fleet_of("a/0", "b/0", policy="single"))
    made.fails("a/0", 3)
    made.fleet.leave(key("a/0"))
    assert made.fleet.fit(made.now_ns) == [made["b/0"]]
    made.fleet.join(key("a/0"), Announcement(), made.now_ns)
    assert made.fleet.fit(made.now_ns) == [made["b/0"]]


def test_who_has_left_may_still_answer() -> None:
    made = Taught(fleet_of("a/0"))
    request_id = made.ask("a/0")
    made.fleet.leave(key("a/0"))
    made.fleet.on_answer(key("a/0"), request_id, RUN, 10 * MS)
    found = made.fleet.find(key("a/0"))
    assert found is not None
    assert (found.answered, found.open) == (1, {})


def test_those_that_left_are_remembered_up_to_a_bound() -> None:
    fleet = fleet_of(*(f"a/{i}" for i in range(MOST_AWAY + 5)))
    for i in range(MOST_AWAY + 5):
        fleet.leave(key(f"a/{i}"))
    assert fleet.find(key("a/4")) is None
    assert fleet.find(key("a/5")) is not None


def test_answers_to_what_was_never_asked_are_nothing() -> None:
    made = Taught(fleet_of("a/0"))
    assert made.fleet.on_answer(key("a/0"), b"x", RUN, 1) == made.fleet.on_given_up(key("b/9"), b"x", 1) == []
    assert made["a/0"].answered == 0


def test_a_replica_hardly_known_is_drawn_to_the_service() -> None:
    made = Taught(fleet_of("a/0", "b/0"))
    made.answers("a/0", 10, times=100)
    made.answers("b/0", 100, times=2)
    share = 2 / (2 + 4)
    assert made["b/0"].survival(50 * MS) == pytest.approx(share, abs=0.05)
    assert made["b/0"].quantile(0.5) == pytest.approx(10 * MS, rel=0.05)
    made.answers("b/0", 100, times=60)
    assert made["b/0"].survival(50 * MS) == pytest.approx(1, abs=0.01)
    assert made["b/0"].quantile(0.5) == pytest.approx(100 * MS, rel=0.05)


def test_the_fallbacks_latency_is_not_the_services() -> None:
    made = Taught(fleet_of("a/0"))
    made.fleet.join(key("me/0"), Announcement(local=True), 0)
    made.answers("me/0", 500, times=20)
    assert not made.fleet.known()
    made.answers("a/0", 10, times=round(KNOWN) + 1)
    assert made.fleet.known()
    assert made.fleet.pool.quantile(0.9) == pytest.approx(10 * MS, rel=0.05)
    assert made.fleet.remote() == [made["a/0"]]
    assert made.fleet.local() is made["me/0"]


# trials


def on_trial(made: Taught) -> list[str]:
    found = [str(replica.key) for replica in made.fleet.on_trial(made.now_ns)]
    assert found == [str(replica.key) for replica in made.fleet.on_trial(made.now_ns)], "to look changes nothing"
    return found


def test_the_unknown_are_tried_and_the_fallback_is_not() -> None:
    made = Taught(fleet_of("a/0", "b/0"))
    made.fleet.join(key("me/0"), Announcement(local=True), 0)
    made.answers("a/0", 10, times=5)
    assert on_trial(made) == ["b/0"]
    made.answers("b/0", 10, times=5)
    assert on_trial(made) == []


def test_the_long_unheard_are_tried() -> None:
    made = Taught(fleet_of("a/0", "b/0"))
    made.answers("a/0", 10, times=5)
    made.answers("b/0", 10, times=5)
    made.now_ns += STALE_NS - 50 * MS
    assert on_trial(made) == []
    made.answers("b/0", 10)
    made.now_ns += 50 * MS
    assert on_trial(made) == ["a/0"]
    made.now_ns += STALE_NS
    assert on_trial(made) == ["a/0", "b/0"]


def test_those_back_from_an_ejection_are_tried() -> None:
    made = Taught(fleet_of("a/0", "b/0", policy="single"))
    made.answers("a/0", 10, times=5)
    made.answers("b/0", 10, times=5)
    made.fails("a/0", 3)
    assert made["a/0"].health.state is State.EJECTED
    assert on_trial(made) == []
    made.passes(1_000)
    assert on_trial(made) == ["a/0"]


def test_one_copy_at_a_time_and_one_a_second() -> None:
    made = Taught(fleet_of("a/0"))
    made["a/0"].tried_ns = made.now_ns
    assert on_trial(made) == []
    made.now_ns += TRIAL_EVERY_NS
    assert on_trial(made) == ["a/0"]
    request_id = made.ask("a/0")
    assert on_trial(made) == []
    made.fleet.on_given_up(key("a/0"), request_id, made.now_ns + MS)
    made.now_ns += MS
    assert on_trial(made) == ["a/0"]


def test_who_pushes_back_is_not_tried() -> None:
    made = Taught(fleet_of("a/0"))
    made.fleet.on_refused(key("a/0"), made.ask("a/0"), Load(retry_after_ns=50 * MS), 0)
    assert on_trial(made) == []
    made.now_ns += 50 * MS
    assert on_trial(made) == ["a/0"]
