"""What a replica runs, queues and refuses."""

from __future__ import annotations

import pytest

from skyfog_core.errors import Status
from skyfog_core.units import MS
from skyfog_core.wire.envelope import VERSION, Header
from skyfog_router.policy import admission
from skyfog_router.policy.admission import UNDER_WAY_NS, Admission, AdmissionAction, Answer, Refuse, Start, Stop
from skyfog_router.policy.service_time import MIN_SAMPLES

HASH = bytes(32)
W, X, Y, Z = (letter.encode() * 16 for letter in "wxyz")
REMEMBER_MS = 1_000


def desk(concurrency: int = 1, max_queue: int = 2, can_abandon: bool = False) -> Admission:
    return Admission(HASH, concurrency, max_queue, REMEMBER_MS * MS, can_abandon)


def query(
    request_id: bytes,
    budget_ms: int = 100,
    priority: int = 0,
    type_hash: bytes = HASH,
    robot: str = "",
    attempt: int = 0,
) -> Header:
    return Header(VERSION, request_id, attempt, budget_ms, type_hash, priority, robot)


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
    assert made.on_done(W, "r", 30 * MS) == [Answer(W, "w", "r"), Start(X, "x", 70, 30 * MS)]
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
    assert made.on_done(W, "r", 2 * MS)[1:] == [Start(X, "x", 98, 2 * MS)]
    assert made.on_done(X, "s", 3 * MS) == [Answer(X, "x", "s", 2 * MS), Answer(X, "x2", "s", 2 * MS)]


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
    assert made.on_query(query(X, attempt=1), "x", 1) == [Start(X, "x", 100)]
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
    assert start == Start(Y, "y", 40, 10 * MS)


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
    assert start == Start(X, "x", 400, 100 * MS)
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
    assert made.on_done(W, "r", 110 * MS) == [Answer(W, "w2", "r"), Start(X, "x", 390, 110 * MS)]
    made.check()


def test_done_twice_or_for_an_unknown_request_is_nothing() -> None:
    made = busy_desk()
    made.on_done(W, "r", 1)
    assert made.on_done(W, "r", 2) == []
    assert made.on_done(Z, "r", 2) == []


def test_what_the_service_refused_has_not_run_and_may_come_again() -> None:
    made = busy_desk()
    assert made.on_query(query(W), "w2", 1) == []
    assert made.on_done(W, "no room", 2, ran=False) == [Answer(W, "w", "no room"), Answer(W, "w2", "no room")]
    assert made.on_query(query(W, attempt=1), "w3", 3) == [Start(W, "w3", 100)]
    made.check()


def test_a_refusal_that_comes_after_the_call_was_given_up_frees_the_id_too() -> None:
    made = busy_desk(can_abandon=True)
    made.on_timer(100 * MS)
    assert made.on_done(W, "no room", 101 * MS, ran=False) == []
    assert made.on_query(query(W), "w2", 102 * MS) == [Start(W, "w2", 100)]


def learn(made: Admission, took_ms: int, times: int = MIN_SAMPLES, now_ms: int = 0) -> int:
    """Run requests one after the other. Returns when the last one ended, in ms."""
    for n in range(times):
        request_id = b"learn" + n.to_bytes(11, "big")
        made.on_query(query(request_id, 60_000, robot="learner"), "t", now_ms * MS)
        now_ms += took_ms
        made.on_done(request_id, "r", now_ms * MS)
    return now_ms


def test_what_cannot_be_done_in_time_is_refused_on_arrival_with_when_to_come_again() -> None:
    made = desk(max_queue=9)
    now = learn(made, 40)
    made.on_query(query(W, 1_000), "w", now * MS)
    made.on_query(query(X, 1_000), "x", now * MS)
    # 40 ms until W ends, 40 ms of X ahead, 40 ms of work
    (refuse,) = made.on_query(query(Y, 119), "y", now * MS)
    assert refused([refuse]) == [("y", Status.NOT_EXECUTED)]
    assert isinstance(refuse, Refuse)
    assert "about 1 ms more than its 119 ms" in refuse.message
    assert refuse.retry_after_ms == 1
    assert made.on_query(query(Z, 120), "z", now * MS) == []
    made.check()


def test_a_free_slot_takes_whatever_has_time_left() -> None:
    made = desk()
    now = learn(made, 40)
    assert made.on_query(query(X, 1), "x", now * MS) == [Start(X, "x", 1)]


def test_nothing_is_hopeless_before_enough_was_measured() -> None:
    made = desk()
    now = learn(made, 40, MIN_SAMPLES - 1)
    made.on_query(query(W, 1_000), "w", now * MS)
    assert made.on_query(query(X, 1), "x", now * MS) == []


def test_what_waits_is_refused_once_the_time_left_is_too_short_for_the_work() -> None:
    made = desk()
    now = learn(made, 40)
    made.on_query(query(W, 10_000), "w", now * MS)
    made.on_query(query(X, 100), "x", now * MS)
    assert made.next_timer_ns() == (now + 60) * MS
    assert made.on_timer((now + 60) * MS - 1) == []
    assert refused(made.on_timer((now + 60) * MS)) == [("x", Status.NOT_EXECUTED)]


def test_losers_that_are_withdrawn_make_the_wait_shorter() -> None:
    made = desk(max_queue=64)
    now = learn(made, 40)
    made.on_query(query(W, 60_000), "w", now * MS)
    for n in range(60):
        request_id = n.to_bytes(16, "big")
        made.on_query(query(request_id, 60_000), "t", now * MS)
        made.on_cancel(request_id)
    made.on_query(query(X, 60_000), "x", now * MS)
    assert made.on_query(query(Y, 85), "y", now * MS) == [], "X will be withdrawn, too, most likely"


def test_stopped_runs_say_nothing_of_the_service_time() -> None:
    made = Admission(HASH, 1, 9, REMEMBER_MS * MS, can_abandon=False, can_stop=True)
    for n in range(2 * MIN_SAMPLES):
        request_id = n.to_bytes(16, "big")
        made.on_query(query(request_id), "t", 0)
        made.on_cancel(request_id)
        made.on_done(request_id, "stopped", 1)
    assert made._times.low_ns == made._times.typical_ns == 0


def test_a_full_queue_says_when_to_come_again() -> None:
    made = desk(max_queue=4)
    now = learn(made, 40)
    made.on_query(query(W, 60_000), "w", now * MS)
    for n in range(4):
        made.on_query(query(n.to_bytes(16, "big"), 60_000), "t", now * MS)
    (refuse,) = made.on_query(query(X, 60_000), "x", now * MS)
    assert isinstance(refuse, Refuse)
    assert refuse.retry_after_ms == 80  # two of the four


def test_before_a_run_has_ended_the_oldest_tells_when_to_come_again() -> None:
    made = busy_desk(max_queue=0)
    (refuse,) = made.on_query(query(X), "x", 70 * MS)
    assert isinstance(refuse, Refuse)
    assert refuse.retry_after_ms == 70


def test_a_higher_priority_takes_the_last_place_of_the_lowest() -> None:
    made = busy_desk()
    made.on_query(query(X, priority=1), "x", 0)
    made.on_query(query(Y, priority=0), "y", 0)
    (refuse,) = made.on_query(query(Z, priority=1), "z", 0)
    assert refused([refuse]) == [("y", Status.NOT_EXECUTED)]
    assert isinstance(refuse, Refuse)
    assert "made room for another" in refuse.message
    assert refused(made.on_query(query(Y, priority=0), "y2", 0)) == [("y2", Status.NOT_EXECUTED)]
    made.check()


def flood(made: Admission, robot: str, count: int, now_ms: int = 0) -> list[bytes]:
    """`count` requests of one robot; those that were taken."""
    ids = [robot.encode() + n.to_bytes(15, "big") for n in range(count)]
    gone: set[bytes] = set()
    for request_id in ids:
        actions = made.on_query(query(request_id, 60_000, robot=robot), request_id, now_ms * MS)
        gone |= {a.request_id for a in actions if isinstance(a, Refuse)}
    return [request_id for request_id in ids if request_id not in gone]


def test_a_robot_with_less_takes_a_place_of_the_one_with_most() -> None:
    made = desk(max_queue=4)
    flood(made, "a", 5)
    assert flood(made, "b", 4) == [b"b" + n.to_bytes(15, "big") for n in range(2)]
    made.check()


@pytest.mark.parametrize("robots", [1, 3])
def test_a_flood_delays_anothers_single_request_by_one_run_a_robot(robots: int) -> None:
    made = desk(max_queue=64)
    for n in range(robots):
        flood(made, f"{n}", 20)
    running = b"0" + bytes(15)
    for n in range(7):  # they are in the midst of it
        (start,) = (a for a in made.on_done(running, "r", (n + 1) * 10 * MS) if isinstance(a, Start))
        running = start.request_id
    made.on_query(query(X, 60_000, robot="x"), "x", 71 * MS)
    runs = 0
    while running != X:
        runs += 1
        (start,) = (a for a in made.on_done(running, "r", (7 + runs) * 10 * MS) if isinstance(a, Start))
        running = start.request_id
    assert runs <= robots


def test_robots_share_the_time_and_not_the_number_of_runs() -> None:
    made = desk(max_queue=100)
    flood(made, "a", 50)
    flood(made, "b", 50)
    took_ms = {b"a": 30, b"b": 10}
    used_ms = {b"a": 0, b"b": 0}
    running, now = b"a" + bytes(15), 0
    for _ in range(40):
        now += took_ms[running[:1]]
        used_ms[running[:1]] += took_ms[running[:1]]
        (start,) = (a for a in made.on_done(running, "r", now * MS) if isinstance(a, Start))
        running = start.request_id
    assert abs(used_ms[b"a"] - used_ms[b"b"]) <= 60
    made.check()


def test_draining_takes_what_was_under_way_and_nothing_that_comes_when_it_is_idle() -> None:
    made = busy_desk()
    made.drain(True, 0)
    assert made.on_query(query(X), "x", 1) == []
    made.on_done(W, "r", 2)
    made.on_done(X, "r", 3)
    assert made.is_idle
    assert made.on_query(query(Y), "y", UNDER_WAY_NS - 1) == [Start(Y, "y", 100)]
    assert made.on_query(query(Z, 2_000), "z", UNDER_WAY_NS) == [], "it is busy with Y"
    made.on_done(Y, "r", UNDER_WAY_NS)
    made.on_done(Z, "r", UNDER_WAY_NS)
    one_more = b"v" * 16
    assert refused(made.on_query(query(one_more), "v", UNDER_WAY_NS)) == [("v", Status.NOT_EXECUTED)]
    made.drain(False, UNDER_WAY_NS)
    assert made.on_query(query(one_more, attempt=1), "v", UNDER_WAY_NS) == [Start(one_more, "v", 100)]


def test_closing_finishes_what_is_here_and_takes_nothing_new() -> None:
    made = busy_desk()
    made.on_query(query(X), "x", 0)
    made.close()
    assert refused(made.on_query(query(Y), "y", 0)) == [("y", Status.NOT_EXECUTED)]
    assert made.on_query(query(X), "x2", 0) == []
    assert made.on_done(W, "r", 1)[1] == Start(X, "x", 99, 1)
    assert made.on_done(X, "r", 1) == [Answer(X, "x", "r", 1), Answer(X, "x2", "r", 1)]
    assert made.is_idle


def test_the_end_tells_everyone_what_is_known() -> None:
    made = Admission(HASH, 1, 2, REMEMBER_MS * MS, can_abandon=False, can_stop=True)
    made.on_query(query(W), "w", 0)
    made.on_query(query(X), "x", 0)
    *refusals, stop = made.end()
    assert refused(refusals) == [("x", Status.NOT_EXECUTED), ("w", Status.OUTCOME_UNKNOWN)]
    assert stop == Stop(W)
    assert made.on_done(W, "r", 1) == []
    assert made.is_idle
    made.check()


def test_check_notices_a_request_in_two_places() -> None:
    made = busy_desk()
    made._waiting.add(made._running[W])
    with pytest.raises(AssertionError):
        made.check()
