"""Copies of a request that come twice, as by two zenoh routers: what was said not to run does not."""

from __future__ import annotations

import pytest

from skyfog_core.errors import Status
from skyfog_core.units import MS
from skyfog_core.wire.envelope import VERSION, Header
from skyfog_router.policy import admission
from skyfog_router.policy.admission import Admission, AdmissionAction, Refuse, Start

HASH = bytes(32)
W, X, Y, Z = (letter.encode() * 16 for letter in "wxyz")


def query(request_id: bytes, attempt: int = 0) -> Header:
    return Header(VERSION, request_id, attempt, 100, HASH)


def refused(actions: list[AdmissionAction]) -> list[tuple[object, Status]]:
    return [(a.ticket, a.status) for a in actions if isinstance(a, Refuse)]


def busy_desk(max_queue: int = 2) -> Admission:
    """W runs."""
    made = Admission(HASH, 1, max_queue, 1_000 * MS, can_abandon=False)
    assert made.on_query(query(W), "w", 0) == [Start(W, "w", 100)]
    return made


def test_a_copy_that_was_refused_is_refused_when_it_comes_by_the_other_router_too() -> None:
    made = busy_desk(max_queue=0)
    assert refused(made.on_query(query(X, attempt=3), "x", 1)) == [("x", Status.NOT_EXECUTED)]
    made.on_done(W, "r", 2)
    assert refused(made.on_query(query(X, attempt=3), "x again", 3)) == [("x again", Status.NOT_EXECUTED)], (
        "it said it never ran"
    )
    assert refused(made.on_query(query(X, attempt=2), "late", 3)) == [("late", Status.NOT_EXECUTED)]
    assert made.on_query(query(X, attempt=4), "new", 4) == [Start(X, "new", 100)], "the robot asks again"


def test_what_was_turned_away_while_it_waited_does_not_run_when_its_second_copy_comes() -> None:
    made = busy_desk()
    made.on_query(query(X, attempt=0), "x", 1)
    made.on_query(query(X, attempt=2), "x later", 1)
    made.on_cancel(X)
    made.on_done(W, "r", 2)
    assert refused(made.on_query(query(X, attempt=2), "x again", 3)) == [("x again", Status.NOT_EXECUTED)]


def test_what_the_service_declined_does_not_run_when_its_second_copy_comes() -> None:
    made = busy_desk()
    made.on_done(W, "declined", 1, ran=False)
    assert refused(made.on_query(query(W, attempt=0), "w again", 2)) == [("w again", Status.NOT_EXECUTED)]
    assert made.on_query(query(W, attempt=1), "w", 3) == [Start(W, "w", 100)]


def test_no_more_refusals_are_remembered_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_REFUSED", 2)
    made = busy_desk(max_queue=0)
    for request_id in (X, Y, Z):
        made.on_query(query(request_id, attempt=0), "", 1)
        made.check()
    made.on_done(W, "r", 2)
    assert made.on_query(query(X, attempt=0), "x", 3) == [Start(X, "x", 100)]
