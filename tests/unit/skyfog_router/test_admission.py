"""What a replica runs, queues and refuses."""

from __future__ import annotations

import pytest

from skyfog_core.errors import Status
from skyfog_core.units import MS
from skyfog_core.wire.envelope import VERSION, Header
from skyfog_router.policy import admission
from skyfog_router.policy.admission import Admission, AdmissionAction, Answer, Refuse, Start

HASH = bytes(32)
W, X, Y, Z = (letter.encode() * 16 for letter in "wxyz")
REMEMBER_MS = 1_000


def desk(concurrency: int = 1, max_queue: int = 2, can_abandon: bool = False) -> Admission:
    return Admission(HASH, concurrency, max_queue, REMEMBER_MS * MS, can_abandon)


def query(request_id: bytes, budget_ms: int = 100, priority: int = 0, type_hash: bytes = HASH) -> Header:
    return Header(VERSION, request_id, 0, budget_ms, type_hash, priority)


def refused(actions: list[AdmissionAction]) -> list[tuple[object, Status]]:
    assert all(isinstance(a, Refuse) for a in actions), actions
    return [(a.ticket, a.status) for a in actions if isinstance(a, Refuse)]


def busy_desk(**settings: int | bool) -> Admission:
    """W runs."""
    made = desk(**settings)  # type: ignore[arg-type]
    assert made.on_query(query(W), "w", 0) == [Start(W, "w", 100)]
    return made


def test_a_free_slot_starts_a_request_with_its_budget() -> None:
    made = desk(concurrency=2)
    assert made.on_query(query(X), "x", 0) == [Start(X, "x", 100)]
    assert made.on_query(query(Y, 50), "y", 0) == [Start(Y, "y", 50)]
    assert made.on_query(query(Z), "z", 0) == []
    assert made.depth == 1


def test_an_answer_goes_out_and_the_next_starts_with_the_time_left() -> None:
    made = busy_desk()
    made.on_query(query(X), "x", 0)
    assert made.on_done(W, "r", 30 * MS) == [Answer(W, "w", "r"), Start(X, "x", 70)]
    made.check()


def test_a_duplicate_of_a_running_request_shares_its_answer() -> None:
    made = busy_desk()
    assert made.on_query(query(W), "w2", 1) == []
    assert made.on_done(W, "r", 2) == [Answer(W, "w", "r"), Answer(W, "w2", "r")]
    assert (made.started, made.duplicates) == (1, 1)


def test_a_duplicate_of_a_waiting_request_shares_its_run() -> None:
    made = busy_desk()
    made.on_query(query(X), "x", 0)
    assert made.on_query(query(X), "x2", 1) == []
    assert made.depth == 1
    assert made.on_done(W, "r", 2 * MS)[1:] == [Start(X, "x", 98)]
    assert made.on_done(X, "s", 3 * MS) == [Answer(X, "x", "s"), Answer(X, "x2", "s")]


def test_a_late_duplicate_is_refused_since_its_answer_is_gone() -> None:
    made = busy_desk()
    made.on_done(W, "r", 1)
    assert refused(made.on_query(query(W), "w2", 2)) == [("w2", Status.OUTCOME_UNKNOWN)]
    assert made.started == 1


def test_an_id_is_forgotten_after_its_time_and_not_before() -> None:
    made = busy_desk()
    made.on_done(W, "r", 5)
    due = 5 + REMEMBER_MS * MS
    assert made.next_timer_ns() == due
    made.on_timer(due - 1)
    assert refused(made.on_query(query(W), "w2", due - 1)) == [("w2", Status.OUTCOME_UNKNOWN)]
    made.on_timer(due)
    assert made.on_query(query(W), "w3", due) == [Start(W, "w3", 100)]


def test_no_more_ids_are_remembered_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_REMEMBERED", 2)
    made = desk()
    for request_id in (W, X, Y):
        made.on_query(query(request_id), "t", 0)
        made.on_done(request_id, "r", 0)
        made.check()
    assert refused(made.on_query(query(X), "t", 1)) == [("t", Status.OUTCOME_UNKNOWN)]


def test_a_full_queue_refuses_and_says_how_full() -> None:
    made = busy_desk(max_queue=1)
    made.on_query(query(X), "x", 0)
    (refuse,) = made.on_query(query(Y), "y", 0)
    assert isinstance(refuse, Refuse)
    assert (refuse.ticket, refuse.status) == ("y", Status.NOT_EXECUTED)
    assert "max_queue 1" in refuse.message
    assert made.depth == 1
    made.check()


def test_without_a_queue_a_request_runs_or_is_refused() -> None:
    made = busy_desk(max_queue=0)
    assert refused(made.on_query(query(X), "x", 0)) == [("x", Status.NOT_EXECUTED)]
    made.on_done(W, "r", 1)
    assert made.on_query(query(X), "x", 1) == [Start(X, "x", 100)]
    made.check()


def test_a_full_queue_first_gives_up_what_is_late() -> None:
    made = busy_desk(max_queue=1)
    made.on_query(query(X, 10), "x", 0)
    assert refused(made.on_query(query(Y), "y", 10 * MS)) == [("x", Status.NOT_EXECUTED)]
    assert made.depth == 1


def test_higher_priority_goes_first_and_equals_in_order_of_arrival() -> None:
    made = busy_desk(max_queue=9)
    for request_id, priority in ((X, 0), (Y, 5), (Z, 5)):
        made.on_query(query(request_id, priority=priority), "t", 0)
    order = []
    running = W
    for _ in range(3):
        (start,) = (a for a in made.on_done(running, "r", 1) if isinstance(a, Start))
        running = start.request_id
        order.append(running)
    assert order == [Y, Z, X]


def test_a_budget_that_runs_out_in_the_queue_is_refused_as_not_run() -> None:
    made = busy_desk()
    made.on_query(query(X, 10), "x", 0)
    made.on_query(query(X, 10), "x2", 0)
    assert made.next_timer_ns() == 10 * MS
    assert made.on_timer(10 * MS - 1) == []
    assert refused(made.on_timer(10 * MS)) == [("x", Status.NOT_EXECUTED), ("x2", Status.NOT_EXECUTED)]
    assert made.depth == 0


def test_what_is_late_when_its_turn_comes_is_refused_not_run() -> None:
    made = busy_desk()
    made.on_query(query(X, 10), "x", 0)
    made.on_query(query(Y, 50), "y", 0)
    answer, refuse, start = made.on_done(W, "r", 10 * MS)
    assert answer == Answer(W, "w", "r")
    assert refused([refuse]) == [("x", Status.NOT_EXECUTED)]
    assert start == Start(Y, "y", 40)


def test_a_query_without_time_left_is_refused() -> None:
    made = desk()
    assert refused(made.on_query(query(X, 0), "x", 0)) == [("x", Status.NOT_EXECUTED)]
    assert made.started == 0


def test_another_service_type_is_refused_and_both_hashes_named() -> None:
    (refuse,) = desk().on_query(query(X, type_hash=b"\xab" * 32), "x", 0)
    assert isinstance(refuse, Refuse)
    assert refuse.status is Status.NOT_EXECUTED
    assert "abababababab" in refuse.message
    assert "000000000000" in refuse.message


def test_cancel_removes_what_waits() -> None:
    made = busy_desk()
    made.on_query(query(X), "x", 0)
    assert refused(made.on_cancel(X)) == [("x", Status.NOT_EXECUTED)]
    assert made.on_done(W, "r", 1) == [Answer(W, "w", "r")]


def test_cancel_of_what_runs_or_is_unknown_is_nothing() -> None:
    made = busy_desk()
    assert made.on_cancel(W) == []
    assert made.on_cancel(Z) == []
    assert made.on_done(W, "r", 1) == [Answer(W, "w", "r")]


def test_a_forwarded_call_past_its_budget_is_given_up_and_frees_its_slot() -> None:
    made = busy_desk(can_abandon=True)
    made.on_query(query(X, 500), "x", 0)
    assert made.next_timer_ns() == 100 * MS
    refuse, start = made.on_timer(100 * MS)
    assert refused([refuse]) == [("w", Status.OUTCOME_UNKNOWN)]
    assert start == Start(X, "x", 400)
    assert made.on_done(W, "late", 101 * MS) == []
    assert refused(made.on_query(query(W), "w2", 102 * MS)) == [("w2", Status.OUTCOME_UNKNOWN)]
    made.check()


def test_a_thread_past_its_budget_is_refused_once_and_keeps_its_slot_until_it_ends() -> None:
    made = busy_desk(can_abandon=False)
    made.on_query(query(X, 500), "x", 0)
    assert refused(made.on_timer(100 * MS)) == [("w", Status.OUTCOME_UNKNOWN)]
    assert made.on_timer(101 * MS) == []
    assert made.next_timer_ns() == 500 * MS
    assert made.on_query(query(W), "w2", 102 * MS) == []
    assert made.on_done(W, "r", 110 * MS) == [Answer(W, "w2", "r"), Start(X, "x", 390)]
    made.check()


def test_done_twice_or_for_an_unknown_request_is_nothing() -> None:
    made = busy_desk()
    made.on_done(W, "r", 1)
    assert made.on_done(W, "r", 2) == []
    assert made.on_done(Z, "r", 2) == []


def test_check_notices_a_request_in_two_places() -> None:
    made = busy_desk()
    made._waiting[W] = made._running[W]
    with pytest.raises(AssertionError):
        made.check()
