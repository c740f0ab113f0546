"""Asking again: what may, when, and whom."""

from __future__ import annotations

import pytest
from unit.skyfog_router.policies import FULL, LOST, Talk, kinds, sends

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import InvalidRequest, OutcomeUnknown, ServiceFailed
from skyfog_core.units import MS
from skyfog_router.policy.actions import Fail, Load
from skyfog_router.policy.retry import FIRST_PAUSE_NS, may_send, pause_ns


def busy(retry_ms: int) -> Load:
    return Load(retry_after_ns=retry_ms * MS)


@pytest.mark.parametrize(
    ("repeat", "attempts", "under_way", "may_have_run", "allowed"),
    [
        ("idempotent", 0, 0, False, True),
        ("idempotent", 2, 2, True, True),
        ("idempotent", 3, 0, False, False),
        ("if_not_executed", 1, 0, False, True),
        ("if_not_executed", 1, 1, False, False),
        ("if_not_executed", 1, 0, True, False),
        ("if_not_executed", 3, 0, False, False),
        ("at_most_once", 0, 0, False, True),
        ("at_most_once", 1, 0, False, False),
    ],
)
def test_what_is_allowed(repeat: str, attempts: int, under_way: int, may_have_run: bool, allowed: bool) -> None:
    config = RoutingConfig(repeat=repeat, max_attempts=3)  # type: ignore[arg-type]
    assert may_send(config, attempts, under_way, may_have_run) is allowed


def test_pauses_double_up_to_a_bound_and_respect_what_was_asked_for() -> None:
    assert [pause_ns(n, 0) // MS for n in (1, 2, 3)] == [5, 10, 20]
    assert pause_ns(10_000, 0) == FIRST_PAUSE_NS << 7
    assert pause_ns(1, 70 * MS) == 70 * MS


def test_an_error_goes_to_the_next_best() -> None:
    talk = Talk("a/0", "b/0", policy="single")
    assert sends(talk.call()) == [("a/0", "first")]
    assert sends(talk.error("a/0", ServiceFailed("x"))) == [("b/0", "retry")]


def test_an_invalid_request_is_not_repeated_elsewhere() -> None:
    talk = Talk("a/0", "b/0", policy="single")
    talk.call()
    (fail,) = talk.error("a/0", InvalidRequest("not a request"))
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, InvalidRequest)
    assert talk.router.snapshot(talk.now_ns).replicas[0].state == "healthy"


def test_who_said_when_is_asked_again_then_and_not_before() -> None:
    talk = Talk("a/0", policy="single")
    talk.call()
    assert talk.error("a/0", FULL, busy(30)) == []
    assert talk.passes(29.999) == []
    assert sends(talk.passes(0.001)) == [("a/0", "retry")]
    talk.error("a/0", FULL, busy(1))
    assert talk.passes(9.999) == [], "the second pause is at least 10 ms"
    assert sends(talk.passes(0.001)) == [("a/0", "retry")]


def test_another_replica_is_asked_meanwhile() -> None:
    talk = Talk("a/0", "b/0", policy="single")
    talk.call()
    assert sends(talk.error("a/0", FULL, busy(30))) == [("b/0", "retry")]
    assert sends(talk.call()) == [("b/0", "first")], "nor does another request ask it"
    talk.passes(30)
    assert sends(talk.call()) == [("a/0", "first")]


def test_who_comes_again_only_after_the_deadline_is_not_waited_for() -> None:
    talk = Talk("a/0", policy="single", deadline_ms=50)
    talk.call()
    (fail,) = talk.error("a/0", FULL, busy(60))
    assert isinstance(fail, Fail)
    assert str(fail.error) == "a/0: full"


def test_if_not_executed_goes_on_after_a_refusal_and_stops_after_anything_else() -> None:
    talk = Talk("a/0", "b/0", "c/0", repeat="if_not_executed")
    talk.call()
    assert sends(talk.error("a/0", FULL)) == [("b/0", "retry")]
    assert sends(talk.passes(900)) == [], "never two at once"
    (fail,) = talk.error("b/0", OutcomeUnknown("?"))
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, OutcomeUnknown)


def test_at_most_once_is_sent_once() -> None:
    talk = Talk("a/0", "b/0", repeat="at_most_once")
    assert sends(talk.call()) == [("a/0", "first")]
    assert kinds(talk.error("a/0", FULL, busy(5))) == ["Fail"]


def test_a_lost_link_may_have_run_it() -> None:
    talk = Talk("a/0", "b/0", repeat="if_not_executed")
    talk.call()
    assert talk.error("a/0", LOST) == []
    fail = talk.passes(1_000)[0]
    assert isinstance(fail, Fail)
    assert "DeadlineExceeded" in type(fail.error).__name__


def test_no_more_than_max_attempts() -> None:
    talk = Talk("a/0", "b/0", "c/0", policy="single", max_attempts=2)
    talk.call()
    assert sends(talk.error("a/0", ServiceFailed("x"))) == [("b/0", "retry")]
    assert kinds(talk.error("b/0", ServiceFailed("y"))) == ["Fail"]


def test_rather_one_that_is_ejected_than_none() -> None:
    talk = Talk("a/0", "b/0", policy="single")
    for _ in range(3):
        talk.call()
        talk.error("a/0", ServiceFailed("x"))
        talk.reply("b/0")
    assert talk.router.snapshot(talk.now_ns).replicas[0].state in {"ejected", "suspect"}
    talk.call()
    assert sends(talk.error("b/0", ServiceFailed("y"))) == [("a/0", "retry")]
