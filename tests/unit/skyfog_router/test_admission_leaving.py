"""A replica whose machine is about to go: what it finishes, and what it hands back while there is time."""

from __future__ import annotations

from unit.skyfog_router.test_admission import W, X, Y, Z, busy_desk, query, refused

from skyfog_core.errors import Status
from skyfog_core.units import MS
from skyfog_router.policy.admission import UNDER_WAY_NS, Admission, Start
from skyfog_router.policy.service_time import MIN_SAMPLES


def known_desk(each_ms: int = 10, **settings: int) -> Admission:
    """W runs; a run takes about `each_ms`."""
    made = busy_desk(**settings)
    for _ in range(MIN_SAMPLES):
        made._times.ran(each_ms * MS, 0)
    return made


def test_a_machine_that_goes_soon_hands_back_what_it_cannot_finish_and_keeps_what_it_can() -> None:
    made = known_desk(max_queue=5)
    for ticket in (X, Y, Z):
        made.on_query(query(ticket), ticket, 0)
    assert refused(made.drain(True, 0, within_ns=30 * MS)) == [(Z, Status.NOT_EXECUTED)]
    late = b"v" * 16
    assert refused(made.on_query(query(late), "v", 0)) == [("v", Status.NOT_EXECUTED)]
    assert made.on_done(W, "r", 10 * MS)[1] == Start(X, X, 90, 10 * MS)
    made.check()


def test_who_turns_out_to_be_too_late_is_handed_back_when_that_shows() -> None:
    made = known_desk(max_queue=5)
    made.on_query(query(X), "x", 0)
    assert made.drain(True, 0, within_ns=30 * MS) == []
    assert refused(made.on_done(W, "r", 25 * MS)[1:]) == [("x", Status.NOT_EXECUTED)]
    assert made.is_idle


def test_a_higher_priority_keeps_its_place_on_a_machine_that_goes() -> None:
    made = known_desk(max_queue=5)
    made.on_query(query(X), "x", 0)
    made.on_query(query(Y, priority=1), "y", 0)
    assert refused(made.drain(True, 0, within_ns=20 * MS)) == [("x", Status.NOT_EXECUTED)]


def test_without_known_times_what_waits_is_handed_back_when_the_machine_goes() -> None:
    made = busy_desk()
    made.on_query(query(X, 100), "x", 0)
    assert made.drain(True, 0, within_ns=50 * MS) == []
    assert made.next_timer_ns() == 50 * MS
    assert refused(made.on_timer(50 * MS)) == [("x", Status.NOT_EXECUTED)]
    assert refused(made.on_query(query(Y), "y", 50 * MS)) == [("y", Status.NOT_EXECUTED)]
    assert made.next_timer_ns() != 50 * MS


def test_the_shortest_limit_told_counts_until_the_draining_ends() -> None:
    made = known_desk(max_queue=5)
    made.on_query(query(X), "x", 0)
    made.drain(True, 0, within_ns=20 * MS)
    assert made.drain(True, 0, within_ns=1_000 * MS) == []
    assert refused(made.drain(True, 5 * MS, within_ns=10 * MS)) == [("x", Status.NOT_EXECUTED)]
    assert made.drain(False, 5 * MS) == []
    assert made.on_query(query(Y), "y", 6 * MS) == []
    assert made.depth == 1


def test_drained_is_said_when_nothing_is_here_and_nothing_can_be_under_way() -> None:
    made = busy_desk()
    made.drain(True, 0)
    made.on_done(W, "r", 1)
    assert not made.is_drained(UNDER_WAY_NS - 1)
    assert made.is_drained(UNDER_WAY_NS)
