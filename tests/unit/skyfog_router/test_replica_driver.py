"""The replica's driver: admission's actions on a handler and on queries; and both drivers joined."""

from __future__ import annotations

import pytest
from unit.skyfog_router.drivers import HASH, SAID, FakeQuery, Replica, Robot, settle

from skyfog_core import budget
from skyfog_core.clock import ManualClock
from skyfog_core.errors import Status
from skyfog_core.units import MS
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, Header, ReplyHeader
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router.policy.admission import UNDER_WAY_NS
from skyfog_router.replica import NO_REQUEST, Result

A, B = ReplicaKey("a", "0"), ReplicaKey("b", "0")
X, Y = b"x" * 16, b"y" * 16
DONE = Result(Status.OK, b"result", service_us=42)


def query(request_id: bytes, budget_ms: int = 100, type_hash: bytes = HASH, attempt: int = 0) -> FakeQuery:
    return FakeQuery(codec.encode(Header(VERSION, request_id, attempt, budget_ms, type_hash)), b"payload")


def arrive(replica: Replica, *queries: FakeQuery) -> None:
    for one in queries:
        replica.transport.arrive(one)
    replica.owner.step()


def reply(one: FakeQuery) -> ReplyHeader:
    """The first answer: the only one that a query sends."""
    return codec.decode_reply_header(one.answers[0][0])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_query_runs_and_its_result_is_answered_with_its_service_time(clock: ManualClock) -> None:
    replica, one = Replica(clock), query(X)
    arrive(replica, one)
    assert [payload for payload, _ in replica.handler.running.values()] == [b"payload"]
    replica.handler.finish(DONE)
    assert one.answers[0][1] == b"result"
    assert reply(one) == ReplyHeader(VERSION, X, Status.OK, 42, 0)


def test_a_reply_tells_how_long_it_waited_and_how_busy_the_replica_is(clock: ManualClock) -> None:
    replica, one, two, three = Replica(clock, max_queue=2), query(X), query(Y), query(b"z" * 16)
    arrive(replica, one, two, three)
    clock.advance(30 * MS)
    replica.handler.finish(DONE)
    replica.owner.step()
    assert reply(one) == ReplyHeader(VERSION, X, Status.OK, 42, 2)
    replica.handler.finish(DONE)
    assert reply(two) == ReplyHeader(VERSION, Y, Status.OK, 42, 1, queue_us=30_000)


def test_a_refusal_for_want_of_room_tells_when_to_come_again(clock: ManualClock) -> None:
    replica, two = Replica(clock, max_queue=0), query(Y)
    arrive(replica, query(X))
    clock.advance(30 * MS)
    arrive(replica, two)
    assert (reply(two).status, reply(two).running, reply(two).retry_after_ms) == (Status.NOT_EXECUTED, 1, 30)


def test_what_the_service_refused_runs_when_it_comes_again(clock: ManualClock) -> None:
    replica, one, again = Replica(clock), query(X), query(X, attempt=1)
    arrive(replica, one)
    replica.handler.finish(Result(Status.NOT_EXECUTED, message="no room"))
    assert reply(one).status is Status.NOT_EXECUTED
    arrive(replica, again)
    replica.handler.finish(DONE)
    assert reply(again).status is Status.OK


def test_an_answer_does_not_wait_for_the_drivers_thread(clock: ManualClock) -> None:
    replica, one = Replica(clock), query(X)
    arrive(replica, one)
    replica.handler.finish(DONE)
    assert one.answers, "owner.step() was not called"


def test_a_duplicate_runs_nothing_and_gets_the_same_result(clock: ManualClock) -> None:
    replica, one, again = Replica(clock), query(X), query(X)
    arrive(replica, one, again)
    replica.handler.finish(DONE)
    replica.owner.step()
    assert not replica.handler.running
    assert again.answers[0][1] == b"result"
    assert reply(again).request_id == X


def test_a_running_loser_is_told_to_stop_once_and_its_slot_is_free_when_it_is_done(clock: ManualClock) -> None:
    replica, one, two = Replica(clock, stop=True), query(X), query(Y)
    arrive(replica, one, two)
    for _ in range(2):
        replica.driver.cancelled(X)
        replica.owner.step()
    assert replica.handler.stopped == [X]
    assert list(replica.handler.running) == [X], "it keeps its slot until it has ended"
    replica.handler.finish(Result(Status.OUTCOME_UNKNOWN, message="stopped"))
    replica.owner.step()
    assert list(replica.handler.running) == [Y]
    assert reply(one).status is Status.OUTCOME_UNKNOWN


def test_what_runs_past_its_budget_is_told_to_stop(clock: ManualClock) -> None:
    replica, one = Replica(clock, stop=True), query(X, budget_ms=100)
    arrive(replica, one)
    clock.advance(100 * MS)
    replica.owner.step()
    assert replica.handler.stopped == [X]


def test_a_service_that_cannot_be_stopped_is_not_told(clock: ManualClock) -> None:
    replica = Replica(clock)
    arrive(replica, query(X))
    replica.driver.cancelled(X)
    replica.owner.step()
    assert replica.handler.stopped == []


def test_a_cancelled_query_never_runs(clock: ManualClock) -> None:
    replica, one, two = Replica(clock), query(X), query(Y)
    arrive(replica, one, two)
    replica.driver.cancelled(Y)
    replica.owner.step()
    replica.handler.finish(DONE)
    replica.owner.step()
    assert not replica.handler.running
    assert reply(two).status is Status.NOT_EXECUTED


@pytest.mark.parametrize("header", [b"", b"garbage", b"\x96\x02\x00"], ids=["none", "garbage", "later version"])
def test_bytes_that_name_no_request_are_refused_and_run_nothing(clock: ManualClock, header: bytes) -> None:
    replica, one = Replica(clock), FakeQuery(header, b"payload")
    arrive(replica, one)
    assert not replica.handler.running
    assert (reply(one).request_id, reply(one).status) == (NO_REQUEST, Status.NOT_EXECUTED)
    assert reply(one).message


def test_another_type_hash_is_refused_and_runs_nothing(clock: ManualClock) -> None:
    replica, one = Replica(clock), query(X, type_hash=b"\x01" * 32)
    arrive(replica, one)
    assert not replica.handler.running
    assert (reply(one).request_id, reply(one).status) == (X, Status.NOT_EXECUTED)


def test_a_full_inbox_refuses_at_the_door(clock: ManualClock) -> None:
    replica = Replica(clock, inbox_limit=1)
    queries = [query(X), query(Y)]
    for one in queries:
        replica.transport.arrive(one)
    assert reply(queries[1]).status is Status.NOT_EXECUTED
    assert queries[0].answers == []


def test_a_budget_that_ends_is_answered_by_the_timer(clock: ManualClock) -> None:
    replica, running, waiting = Replica(clock), query(X), query(Y, budget_ms=50)
    arrive(replica, running, waiting)
    clock.advance(50 * MS)
    replica.owner.step()
    assert reply(waiting).status is Status.NOT_EXECUTED
    clock.advance(50 * MS)
    replica.owner.step()
    assert reply(running).status is Status.OUTCOME_UNKNOWN


def test_a_service_finds_how_long_its_request_may_take(clock: ManualClock) -> None:
    replica = Replica(clock)
    clock.advance(30 * MS)
    arrive(replica, query(X, budget_ms=100), query(Y, budget_ms=50))
    clock.advance(20 * MS)
    replica.handler.finish(DONE)
    replica.owner.step()
    assert replica.handler.due_ns == [130 * MS, 80 * MS]  # of what waited, the rest
    assert budget.deadline_ns() is None


def test_a_failure_with_an_endless_message_is_still_an_answer(clock: ManualClock) -> None:
    replica, one = Replica(clock), query(X)
    arrive(replica, one)
    replica.handler.finish(Result(Status.FAILED, message="é\udcff" * 5_000))
    assert reply(one).status is Status.FAILED
    assert reply(one).message.startswith("é?é?")


def test_close_drops_the_token_before_it_leaves(clock: ManualClock) -> None:
    replica = Replica(clock)
    replica.driver.announce(SAID)
    replica.driver.close()
    assert replica.transport.announced == [SAID, None]
    assert replica.transport.closed
    assert replica.handler.closed


def test_finishing_drops_the_token_and_finishes_what_runs_and_waits(clock: ManualClock) -> None:
    replica, running, waiting, late = Replica(clock), query(X), query(Y), query(b"z" * 16)
    replica.driver.announce(SAID)
    arrive(replica, running, waiting)
    finished: list[str] = []
    replica.driver.finish(1_000, lambda: finished.append("done"))
    assert replica.transport.announced == [SAID, None]
    replica.driver.announce(SAID)
    assert replica.transport.announced == [SAID, None], "nobody announces it again"
    arrive(replica, late)
    assert reply(late).status is Status.NOT_EXECUTED
    for _ in range(2):
        assert not finished
        replica.handler.finish(DONE)
        replica.owner.step()
    assert [reply(one).status for one in (running, waiting)] == [Status.OK, Status.OK]
    replica.owner.step()
    assert finished == ["done"]


def test_an_idle_replica_has_finished_at_once(clock: ManualClock) -> None:
    replica = Replica(clock)
    finished: list[str] = []
    replica.driver.finish(1_000, lambda: finished.append("done"))
    replica.owner.step()
    assert finished == ["done"]


def test_finishing_ends_at_its_limit_and_everyone_is_told(clock: ManualClock) -> None:
    replica, running, waiting = Replica(clock, stop=True), query(X, 10_000), query(Y, 10_000)
    arrive(replica, running, waiting)
    finished: list[str] = []
    replica.driver.finish(500, lambda: finished.append("done"))
    replica.owner.step()
    assert replica.driver._on_timer(clock.now_ns()) == 500 * MS
    clock.advance(500 * MS)
    replica.owner.step()
    assert finished == ["done"]
    assert running.answers == waiting.answers == []
    replica.driver.close()
    assert (reply(running).status, reply(waiting).status) == (Status.OUTCOME_UNKNOWN, Status.NOT_EXECUTED)
    assert replica.handler.stopped == [X]


def test_draining_and_back(clock: ManualClock) -> None:
    replica, one, two = Replica(clock), query(X), query(Y)
    replica.driver.drain(True)
    replica.owner.step()
    clock.advance(UNDER_WAY_NS)
    arrive(replica, one)
    assert reply(one).status is Status.NOT_EXECUTED
    replica.driver.drain(False)
    arrive(replica, two)
    assert list(replica.handler.running) == [Y]


def joined(clock: ManualClock, **settings: int) -> tuple[Robot, Replica, Replica]:
    robot, a, b = Robot(clock), Replica(clock, **settings), Replica(clock, **settings)
    robot.transport.replicas = {A: a.transport, B: b.transport}
    robot.join(A, B)
    return robot, a, b


def test_joined_the_first_result_reaches_the_caller_and_the_loser_is_freed(clock: ManualClock) -> None:
    robot, a, b = joined(clock)
    first, second = robot.call(b"1"), robot.call(b"2")
    settle(robot, a, b)
    b.handler.finish(Result(Status.OK, b"one"))
    settle(robot, a, b)
    b.handler.finish(Result(Status.OK, b"two"))
    settle(robot, a, b)
    assert (first.heard, second.heard) == ([b"one"], [b"two"])
    assert a.admission.depth == 0, "the second request was withdrawn from a's queue"


def test_joined_busy_replicas_say_when_to_come_again_and_are_asked_then(clock: ManualClock) -> None:
    robot, a, b = joined(clock, max_queue=0)
    first, second = robot.call(b"1"), robot.call(b"2")
    settle(robot, a, b)
    assert not second.heard, "both refused it for now"
    a.handler.finish(DONE)
    settle(robot, a, b)
    assert first.heard == [b"result"]
    clock.advance(20 * MS)
    robot.owner.step()
    settle(robot, a, b)
    a.handler.finish(DONE)
    settle(robot, a, b)
    assert second.heard == [b"result"]


def test_joined_a_service_that_fails_everywhere_is_told_as_failed(clock: ManualClock) -> None:
    robot, a, b = joined(clock)
    caller = robot.call()
    settle(robot, a, b)
    for replica in (a, b):
        replica.handler.finish(Result(Status.FAILED, message="ValueError: no camera"))
    settle(robot, a, b)
    assert [type(e).__name__ for e in caller.heard] == ["ServiceFailed"]
    assert "b/0: ValueError: no camera" in str(caller.heard[0])


def test_a_snapshot_counts_runs_and_refusals_by_reason(clock: ManualClock) -> None:
    replica = Replica(clock, max_queue=1)
    arrive(replica, query(X), query(Y), query(b"z" * 16), query(b"w" * 16, type_hash=bytes(31) + b"1"))
    arrive(replica, query(X), FakeQuery(b"garbage", b""))
    now = replica.driver.snapshot()
    assert (now.concurrency, now.max_queue, now.running, now.waiting) == (1, 1, 1, 1)
    assert (now.started, now.finished, now.repeated) == (1, 0, 1)
    assert now.refused == {"full": 1, "type": 1, "unreadable": 1}
    replica.transport.events.cancelled(Y)
    replica.handler.finish(Result(Status.FAILED, message="no"))
    now = replica.driver.snapshot()
    assert (now.running, now.waiting, now.finished, now.failed) == (0, 0, 1, 1)
    assert now.refused["withdrawn"] == 1


def test_reasons_tell_late_from_hopeless_and_from_a_replica_that_leaves(clock: ManualClock) -> None:
    replica = Replica(clock)
    arrive(replica, query(X, 0), query(Y, 50), query(b"z" * 16, 20))
    clock.advance(30 * MS)
    replica.owner.step()
    replica.admission.close()
    arrive(replica, query(b"w" * 16))
    assert replica.driver.snapshot().refused == {"late": 2, "leaving": 1}
    clock.advance(30 * MS)
    replica.owner.step()
    assert replica.driver.snapshot().refused["unanswered"] == 1
