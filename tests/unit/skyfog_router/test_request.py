"""One request under `broadcast`: who is asked, who wins, and how it fails."""

from __future__ import annotations

import pytest

from skyfog_core.config.router import RoutingConfig
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
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Action, Cancel, Deliver, Fail, Send
from skyfog_router.policy.router import Router

A, B, C = (ReplicaKey(zone, "0") for zone in "abc")
ID, OTHER = b"i" * 16, b"o" * 16
SAID = Announcement()
LOST = LinkLost("ended")


class One:
    """A router with one open request."""

    def __init__(self, *live: ReplicaKey, fan_out: int = 8, at_ns: int = 0) -> None:
        self.router = Router(RoutingConfig(policy="broadcast", deadline_ms=100, fan_out=fan_out))
        for replica in live:
            self.router.on_join(replica, SAID, 0)
        self.first = self.router.on_call(ID, at_ns)

    def join(self, replica: ReplicaKey, now_ns: int) -> list[Action]:
        return self.router.on_join(replica, SAID, now_ns)

    def leave(self, replica: ReplicaKey, now_ns: int = 0) -> None:
        assert self.router.on_leave(replica, SAID, now_ns) == []

    def rejoin(self, replica: ReplicaKey, now_ns: int) -> list[Action]:
        """As a new process."""
        return self.router.on_join(replica, Announcement(boot=now_ns + 1), now_ns)

    def reply(self, replica: ReplicaKey, response: str, now_ns: int) -> list[Action]:
        return self.router.on_reply(ID, replica, response, now_ns)

    def error(self, replica: ReplicaKey, error: RequestError, now_ns: int) -> list[Action]:
        return self.router.on_error(ID, replica, error, now_ns)

    def deadline(self) -> list[Action]:
        return self.router.on_timer(100 * MS)


def failure(actions: list[Action]) -> RequestError:
    assert len(actions) == 1
    assert isinstance(actions[0], Fail)
    return actions[0].error


def test_every_live_replica_is_asked_once_with_the_time_left() -> None:
    one = One(A, B)
    assert one.first == [Send(ID, A, 0, 100), Send(ID, B, 1, 100, "copy")]
    assert one.join(C, 30 * MS) == [Send(ID, C, 2, 70, "copy")]


def test_a_budget_is_at_least_one_millisecond_and_never_sent_after_the_deadline() -> None:
    one = One(A)
    assert one.join(B, 100 * MS - 1) == [Send(ID, B, 1, 1, "copy")]
    assert one.join(C, 100 * MS) == []


def test_no_more_are_asked_than_fan_out_says_and_the_next_when_one_refuses() -> None:
    one = One(A, B, C, fan_out=2)
    assert [a.replica for a in one.first] == [A, B]
    assert one.error(B, Overloaded("full"), MS) == [Send(ID, C, 2, 99, "copy")]


def test_a_replica_that_has_left_takes_no_place_of_the_fan_out() -> None:
    one = One(A, fan_out=1)
    one.leave(A)
    assert one.join(B, MS) == [Send(ID, B, 1, 99, "copy")]


def test_first_reply_wins_and_losers_are_cancelled() -> None:
    one = One(A, B, C)
    assert one.reply(B, "b", 7) == [Deliver(ID, B, "b", 7, asked=3), Cancel(ID, A), Cancel(ID, C)]
    assert not one.router.is_open(ID)


def test_who_has_ended_already_is_not_cancelled() -> None:
    one = One(A, B, C)
    one.error(A, LOST, 1)
    assert one.reply(B, "b", 7) == [Deliver(ID, B, "b", 7, asked=3), Cancel(ID, C)]


def test_late_and_unknown_replies_and_errors_are_nothing() -> None:
    one = One(A)
    assert one.reply(B, "b", 1) == []
    assert one.error(B, LOST, 1) == []
    one.reply(A, "a", 2)
    assert one.reply(A, "again", 3) == []
    assert one.error(A, LOST, 3) == []
    assert one.join(C, 3) == []
    assert one.deadline() == []


def test_a_refusal_waits_for_those_still_at_work() -> None:
    one = One(A, B)
    assert one.error(A, ServiceFailed("bad"), 1) == []
    assert one.reply(B, "b", 2) == [Deliver(ID, B, "b", 2, asked=2)]


def test_refused_by_all_fails_at_once_with_the_reason() -> None:
    one = One(A, B)
    one.error(A, Overloaded("full"), 1)
    error = failure(one.error(B, NotExecuted("busy"), 2))
    assert isinstance(error, NotExecuted)
    assert str(error) == "a/0: full; b/0: busy"


@pytest.mark.parametrize("unsure", [ServiceFailed("x"), InvalidRequest("x"), OutcomeUnknown("x")], ids=repr)
@pytest.mark.parametrize("unsure_first", [True, False])
def test_a_failure_is_certain_only_if_every_replica_is(unsure: RequestError, unsure_first: bool) -> None:
    one = One(A, B)
    errors = [unsure, Overloaded("full")]
    for replica, error in zip([A, B], errors if unsure_first else errors[::-1], strict=True):
        actions = one.error(replica, error, 1)
    assert type(failure(actions)) is type(unsure)


@pytest.mark.parametrize("last", [LOST, Overloaded("full")], ids=repr)
def test_lost_by_one_of_them_waits_for_a_newcomer(last: RequestError) -> None:
    one = One(A, B)
    one.error(A, LOST if last is not LOST else Overloaded("full"), 1)
    assert one.error(B, last, 2) == []
    assert one.join(C, 5 * MS) == [Send(ID, C, 2, 95, "retry")]


def test_refused_by_one_that_has_left_waits_for_a_newcomer() -> None:
    one = One(A)
    one.leave(A)
    assert one.error(A, NotExecuted("draining"), 1) == []
    assert one.join(B, MS) == [Send(ID, B, 1, 99, "retry")]


def test_a_rejoined_replica_is_asked_again() -> None:
    one = One(A)
    one.leave(A)
    one.error(A, LOST, 1)
    assert one.rejoin(A, MS) == [Send(ID, A, 1, 99, "retry")]


def test_a_replica_that_is_still_there_after_its_link_was_lost_is_asked_again() -> None:
    one = One(A)
    assert one.error(A, LOST, 1) == []
    assert one.router.next_timer_ns() == 1 + 20 * MS
    assert one.router.on_timer(1 + 20 * MS) == [Send(ID, A, 1, 79, "retry")]
    assert one.error(A, LOST, 25 * MS) == []
    assert one.router.next_timer_ns() == 65 * MS, "the second pause is twice as long"


def test_a_replica_that_rejoins_before_its_old_query_ends_is_asked_again_when_it_does() -> None:
    one = One(A)
    assert one.rejoin(A, MS) == []
    assert one.error(A, LOST, 2 * MS) == [Send(ID, A, 1, 98, "retry")]
    assert one.error(A, LOST, 3 * MS) == [], "one rejoining, one more try"


def test_a_failure_is_never_certain_once_a_process_was_lost_that_another_has_replaced() -> None:
    one = One(A)
    one.leave(A)
    one.error(A, LOST, 1)
    one.rejoin(A, MS)
    error = failure(one.error(A, Overloaded("full"), 2 * MS))
    assert type(error) is OutcomeUnknown
    assert "a/0: full" in str(error)


def test_a_deadline_right_after_a_rejoined_replicas_old_query_ended_is_deadline_exceeded() -> None:
    one = One(A)
    one.rejoin(A, MS)
    assert one.error(A, LOST, 100 * MS) == []
    assert type(failure(one.deadline())) is DeadlineExceeded


def test_a_deadline_without_anybody_to_ask_is_no_replica() -> None:
    error = failure(One().deadline())
    assert type(error) is NoReplica
    assert "100 ms" in str(error)


def test_a_deadline_after_refusals_only_is_no_replica_with_their_reasons() -> None:
    one = One(A)
    one.leave(A)
    one.error(A, Overloaded("full"), 1)
    error = failure(one.deadline())
    assert type(error) is NoReplica
    assert "a/0: full" in str(error)


def test_a_deadline_while_somebody_may_have_run_it_is_deadline_exceeded() -> None:
    one = One(A, B)
    one.error(A, Overloaded("full"), 1)
    fail, *cancels = one.deadline()
    assert isinstance(fail, Fail)
    assert type(fail.error) is DeadlineExceeded
    assert str(fail.error) == "no valid reply after 100 ms (b/0: no answer; a/0: full)"
    assert cancels == [Cancel(ID, B)]


def test_a_deadline_after_a_lost_replica_is_deadline_exceeded() -> None:
    one = One(A)
    one.leave(A)
    one.error(A, LOST, 1)
    assert type(failure(one.deadline())) is DeadlineExceeded


def test_a_deadline_right_after_one_that_refused_has_come_back_is_a_failure_too() -> None:
    one = One(A)
    one.leave(A)
    one.error(A, Overloaded("full"), 1)
    assert one.rejoin(A, 100 * MS) == []
    assert type(failure(one.deadline())) is DeadlineExceeded


@pytest.mark.parametrize(("budget_ms", "by_ms"), [(None, 100), (40, 40), (500, 100)])
def test_a_calls_own_budget_bounds_its_deadline(budget_ms: int | None, by_ms: int) -> None:
    router = Router(RoutingConfig(policy="broadcast", deadline_ms=100))
    router.on_join(A, SAID, 0)
    assert router.on_call(ID, 0, budget_ms=budget_ms) == [Send(ID, A, 0, by_ms)]
    assert router.on_timer(by_ms * MS - 1) == []
    (fail, _) = router.on_timer(by_ms * MS)
    assert isinstance(fail, Fail)


def test_a_calls_own_budget_bounds_its_slo() -> None:
    router = Router(RoutingConfig(policy="slo", deadline_ms=1_000, slo_ms=500))
    router.on_call(ID, 0, budget_ms=80)
    router.on_call(OTHER, 0, budget_ms=800)
    assert [router._open[each].slo_ns for each in (ID, OTHER)] == [80 * MS, 500 * MS]


@pytest.mark.parametrize("budget_ms", [0, -5])
def test_a_call_without_any_time_left_fails_at_once(budget_ms: int) -> None:
    router = Router(RoutingConfig(policy="broadcast"))
    router.on_join(A, SAID, 0)
    assert router.on_call(ID, 7, budget_ms=budget_ms) == []
    assert router.next_timer_ns() == 7
    (fail,) = router.on_timer(7)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, NotExecuted)
