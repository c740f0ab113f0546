"""One broadcast request: who is asked, who wins, and how it fails."""

from __future__ import annotations

import pytest

from skyfog_core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LinkLost,
    NoReplica,
    NotExecuted,
    OutcomeUnknown,
    Overloaded,
    RequestError,
    ServiceFailed,
)
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router.policy.actions import Cancel, Deliver, Fail, Send
from skyfog_router.policy.request import BroadcastRequest

A, B, C = (ReplicaKey(zone, "0") for zone in "abc")
ID = b"i" * 16
LOST = LinkLost("ended")


def request(fan_out: int = 8, deadline_ms: int = 100) -> BroadcastRequest:
    return BroadcastRequest(ID, 0, deadline_ms * MS, fan_out)


def asked(*live: ReplicaKey, fan_out: int = 8) -> BroadcastRequest:
    made = request(fan_out)
    made.ask(live, 0)
    return made


def failure(actions: list[object]) -> RequestError:
    assert len(actions) == 1
    assert isinstance(actions[0], Fail)
    return actions[0].error


def test_every_live_replica_is_asked_once_with_the_time_left() -> None:
    made = request()
    assert made.ask([A, B], 30 * MS) == [Send(ID, A, 0, 70), Send(ID, B, 1, 70)]
    assert made.ask([A, B], 30 * MS) == []


def test_a_budget_is_at_least_one_millisecond_and_never_sent_after_the_deadline() -> None:
    assert request().ask([A], 100 * MS - 1) == [Send(ID, A, 0, 1)]
    assert request().ask([A], 100 * MS) == []


def test_no_more_are_asked_than_fan_out_says_and_the_next_when_one_refuses() -> None:
    made = request(fan_out=2)
    assert [a.replica for a in made.ask([A, B, C], 0)] == [A, B]
    assert made.ask([A, B, C], 0) == []
    assert made.on_error(B, Overloaded("full"), [A, B, C], MS) == [Send(ID, C, 2, 99)]


def test_a_replica_that_has_left_takes_no_place_of_the_fan_out() -> None:
    made = asked(A, fan_out=1)
    assert made.on_join(B, [B], MS) == [Send(ID, B, 1, 99)]


def test_first_reply_wins_and_losers_are_cancelled() -> None:
    made = asked(A, B, C)
    assert made.on_reply(B, "b", 7) == [Deliver(ID, B, "b", 7), Cancel(ID, A), Cancel(ID, C)]
    assert made.done


def test_who_has_ended_already_is_not_cancelled() -> None:
    made = asked(A, B, C)
    made.on_error(A, LOST, [B, C], 1)
    assert made.on_reply(B, "b", 7) == [Deliver(ID, B, "b", 7), Cancel(ID, C)]


def test_late_and_unknown_replies_and_errors_are_nothing() -> None:
    made = asked(A)
    assert made.on_reply(B, "b", 1) == []
    assert made.on_error(B, LOST, [A], 1) == []
    made.on_reply(A, "a", 2)
    assert made.on_reply(A, "again", 3) == []
    assert made.on_error(A, LOST, [A], 3) == []
    assert made.on_join(C, [A, C], 3) == []
    assert made.on_deadline(100 * MS) == []


def test_a_refusal_waits_for_those_still_at_work() -> None:
    made = asked(A, B)
    assert made.on_error(A, ServiceFailed("bad"), [A, B], 1) == []
    assert made.on_reply(B, "b", 2) == [Deliver(ID, B, "b", 2)]


def test_refused_by_all_fails_at_once_with_the_reason() -> None:
    made = asked(A, B)
    made.on_error(A, Overloaded("full"), [A, B], 1)
    error = failure(made.on_error(B, NotExecuted("busy"), [A, B], 2))
    assert isinstance(error, NotExecuted)
    assert str(error) == "a/0: full; b/0: busy"


@pytest.mark.parametrize("unsure", [ServiceFailed("x"), InvalidRequest("x"), OutcomeUnknown("x")], ids=repr)
@pytest.mark.parametrize("unsure_first", [True, False])
def test_a_failure_is_certain_only_if_every_replica_is(unsure: RequestError, unsure_first: bool) -> None:
    made = asked(A, B)
    errors = [unsure, Overloaded("full")]
    for replica, error in zip([A, B], errors if unsure_first else errors[::-1], strict=True):
        actions = made.on_error(replica, error, [A, B], 1)
    assert type(failure(actions)) is type(unsure)


@pytest.mark.parametrize("last", [LOST, Overloaded("full")], ids=repr)
def test_lost_by_one_of_them_waits_for_a_newcomer(last: RequestError) -> None:
    made = asked(A, B)
    made.on_error(A, LOST if last is not LOST else Overloaded("full"), [A, B], 1)
    assert made.on_error(B, last, [A, B], 2) == []
    assert made.on_join(C, [A, B, C], 5 * MS) == [Send(ID, C, 2, 95)]


def test_refused_by_one_that_has_left_waits_for_a_newcomer() -> None:
    made = asked(A)
    assert made.on_error(A, NotExecuted("draining"), [], 1) == []
    assert made.on_join(B, [B], MS) == [Send(ID, B, 1, 99)]


def test_a_rejoined_replica_is_asked_again() -> None:
    made = asked(A)
    made.on_error(A, LOST, [], 1)
    assert made.on_join(A, [A], MS) == [Send(ID, A, 1, 99)]


def test_a_replica_that_rejoins_before_its_old_query_ends_is_asked_again_when_it_does() -> None:
    made = asked(A)
    assert made.on_join(A, [A], MS) == []
    assert made.on_error(A, LOST, [A], 2 * MS) == [Send(ID, A, 1, 98)]
    assert made.on_error(A, LOST, [A], 3 * MS) == [], "one rejoining, one more try"


def test_a_failure_is_never_certain_once_a_process_was_lost_that_another_has_replaced() -> None:
    made = asked(A)
    made.on_error(A, LOST, [], 1)
    made.on_join(A, [A], MS)
    error = failure(made.on_error(A, Overloaded("full"), [A], 2 * MS))
    assert type(error) is OutcomeUnknown
    assert "a/0: full" in str(error)


def test_a_deadline_right_after_a_rejoined_replicas_old_query_ended_is_deadline_exceeded() -> None:
    made = asked(A)
    made.on_join(A, [A], MS)
    assert made.on_error(A, LOST, [A], 100 * MS) == []
    assert type(failure(made.on_deadline(100 * MS))) is DeadlineExceeded


def test_a_deadline_without_anybody_to_ask_is_no_replica() -> None:
    error = failure(request().on_deadline(100 * MS))
    assert type(error) is NoReplica
    assert "100 ms" in str(error)


def test_a_deadline_after_refusals_only_is_no_replica_with_their_reasons() -> None:
    made = asked(A)
    made.on_error(A, Overloaded("full"), [], 1)
    error = failure(made.on_deadline(100 * MS))
    assert type(error) is NoReplica
    assert "a/0: full" in str(error)


def test_a_deadline_while_somebody_may_have_run_it_is_deadline_exceeded() -> None:
    made = asked(A, B)
    made.on_error(A, Overloaded("full"), [A, B], 1)
    fail, *cancels = made.on_deadline(100 * MS)
    assert isinstance(fail, Fail)
    assert type(fail.error) is DeadlineExceeded
    assert str(fail.error) == "no valid reply after 100 ms (b/0: no answer; a/0: full)"
    assert cancels == [Cancel(ID, B)]


def test_a_deadline_after_a_lost_replica_is_deadline_exceeded() -> None:
    made = asked(A)
    made.on_error(A, LOST, [], 1)
    assert type(failure(made.on_deadline(100 * MS))) is DeadlineExceeded


def test_a_deadline_right_after_one_that_refused_has_come_back_is_a_failure_too() -> None:
    made = asked(A)
    made.on_error(A, Overloaded("full"), [], 1)
    assert made.on_join(A, [A], 100 * MS) == []
    assert type(failure(made.on_deadline(100 * MS))) is DeadlineExceeded
