"""All open requests of one service."""

from __future__ import annotations

import pytest

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import DeadlineExceeded, NoReplica, NotExecuted, OutcomeUnknown, Overloaded
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Cancel, Deliver, Fail, Send
from skyfog_router.policy.router import Router

A, B = ReplicaKey("a", "0"), ReplicaKey("b", "0")
SAID = Announcement()
X, Y = b"x" * 16, b"y" * 16


def router(
    deadline_ms: int = 100, fan_out: int = 8, max_in_flight: int = 10, live: tuple[ReplicaKey, ...] = ()
) -> Router:
    made = Router(
        RoutingConfig(policy="broadcast", deadline_ms=deadline_ms, fan_out=fan_out, max_in_flight=max_in_flight)
    )
    for replica in live:
        made.on_join(replica, SAID, 0)
    return made


def test_a_call_is_delivered_once_and_the_books_say_so() -> None:
    made = router(live=(A, B))
    assert made.on_call(X, 0) == [Send(X, A, 0, 100), Send(X, B, 1, 100, "copy")]
    assert made.is_open(X)
    assert made.on_reply(X, B, "b", 5) == [Deliver(X, B, "b", 5, asked=2), Cancel(X, A)]
    assert not made.is_open(X)
    assert made.on_reply(X, A, "a", 6) == []
    assert made.on_ended(X, A, 7) == []
    books = made.books
    assert (books.called, books.delivered, books.failed, books.late) == (1, 1, 0, 1)
    assert books.sends == {"first": 1, "copy": 1}
    made.check()


def test_a_newcomer_is_asked_for_every_open_request_and_repeated_news_is_nothing() -> None:
    made = router()
    assert made.on_call(X, 0) + made.on_call(Y, 0) == []
    assert made.on_join(A, SAID, MS) == [Send(X, A, 0, 99), Send(Y, A, 0, 99)]
    assert made.on_join(A, SAID, MS) == []


def test_who_has_left_gets_nothing_new_but_may_still_answer() -> None:
    made = router(live=(A, B))
    made.on_call(X, 0)
    made.on_leave(A, SAID, 0)
    assert made.on_call(Y, 0) == [Send(Y, B, 0, 100)]
    assert made.on_reply(X, A, "a", 5) == [Deliver(X, A, "a", 5, asked=2), Cancel(X, B)]


def test_a_lost_replica_that_comes_back_is_asked_again() -> None:
    made = router(live=(A,))
    made.on_call(X, 0)
    made.on_leave(A, SAID, 0)
    assert made.on_ended(X, A, MS) == []
    assert made.on_join(A, SAID, 2 * MS) == [Send(X, A, 1, 98, "retry")]


def test_a_request_past_its_deadline_fails_by_the_timer_and_only_then() -> None:
    made = router(live=(A,))
    made.on_call(X, 0)
    made.on_call(Y, MS)
    assert made.next_timer_ns() == 100 * MS
    assert made.on_timer(100 * MS - 1) == []
    fail, cancel = made.on_timer(100 * MS)
    assert isinstance(fail, Fail)
    assert (fail.request_id, type(fail.error), fail.took_ns) == (X, DeadlineExceeded, 100 * MS)
    assert cancel == Cancel(X, A)
    assert made.next_timer_ns() == 101 * MS
    made.check()


def test_the_timer_of_a_closed_request_is_forgotten() -> None:
    made = router(live=(A,))
    made.on_call(X, 0)
    made.on_reply(X, A, "a", 1)
    assert made.next_timer_ns() is None
    assert made.on_timer(200 * MS) == []
    assert made.books.late == 0


def test_more_than_max_in_flight_is_refused_and_the_rest_unharmed() -> None:
    made = router(max_in_flight=1, live=(A,))
    made.on_call(X, 0)
    (fail,) = made.on_call(Y, 0)
    assert isinstance(fail, Fail)
    assert (fail.request_id, type(fail.error)) == (Y, Overloaded)
    assert made.on_reply(X, A, "a", 1) == [Deliver(X, A, "a", 1)]
    assert made.on_call(b"z" * 16, 2) == [Send(b"z" * 16, A, 0, 100)]
    made.check()


def test_without_anybody_a_call_waits_and_fails_as_no_replica() -> None:
    made = router()
    assert made.on_call(X, 0) == []
    (fail,) = made.on_timer(100 * MS)
    assert isinstance(fail, Fail)
    assert type(fail.error) is NoReplica


def test_close_fails_everything_open_once_and_claims_no_more_than_is_certain() -> None:
    made = router(live=(A,))
    made.on_call(X, 0)
    made.on_call(Y, 0)
    made.on_reply(Y, A, "y", 1)
    error = NotExecuted("shutting down")
    fail, cancel = made.close(error, 9)
    assert isinstance(fail, Fail)
    assert (fail.request_id, type(fail.error), str(fail.error)) == (X, OutcomeUnknown, "shutting down")
    assert cancel == Cancel(X, A)
    assert made.close(error, 9) == []
    assert made.on_reply(X, A, "x", 10) == []
    assert made.on_timer(200 * MS) == []
    books = made.books
    assert (books.called, books.delivered, books.failed, books.late) == (2, 1, 1, 1)
    made.check()


def test_close_is_certain_of_what_nobody_was_asked() -> None:
    made = router()
    made.on_call(X, 0)
    error = NotExecuted("shutting down")
    assert made.close(error, 9) == [Fail(X, error, 9)]


def test_check_notices_a_lost_and_an_undying_request() -> None:
    lost, undying = router(), router()
    for made in (lost, undying):
        made.on_call(X, 0)
    lost._open.clear()
    undying._timers.clear()
    for made in (lost, undying):
        with pytest.raises(AssertionError):
            made.check()
