"""FogROS2-FT's rules as published, its faults included."""

from __future__ import annotations

from skyfog_bench.baselines.fogros2_ft import NOBODY, FogRos2Ft
from skyfog_core.errors import LinkLost, NotExecuted
from skyfog_core.units import S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Action, Deliver, Fail, Send

A, B = (ReplicaKey(zone, "0") for zone in "ab")
SAID = Announcement()
ONE, TWO = b"1" * 16, b"2" * 16
EMPTY = object()


def _robot(*replicas: ReplicaKey) -> FogRos2Ft:
    robot = FogRos2Ft(EMPTY)
    for replica in replicas:
        robot.on_join(replica, SAID, 0)
    return robot


def _asked(actions: list[Action]) -> list[ReplicaKey]:
    return [action.replica for action in actions if isinstance(action, Send)]


def test_every_replica_is_asked_and_the_first_response_wins() -> None:
    robot = _robot(A, B)
    assert _asked(robot.on_call(ONE, 0)) == [A, B]
    assert robot.on_reply(ONE, B, "answer", 5) == [Deliver(ONE, B, "answer", 5, asked=2)]
    assert robot.on_reply(ONE, A, "later", 6) == []  # dropped by its id, and nobody is told to stop


def test_one_request_is_in_flight_and_the_others_wait() -> None:
    robot = _robot(A)
    robot.on_call(ONE, 0)
    assert robot.on_call(TWO, 1) == []
    delivered, sent = robot.on_reply(ONE, A, "one", 9)
    assert isinstance(delivered, Deliver)
    assert isinstance(sent, Send)
    assert sent.request_id == TWO


def test_after_the_time_out_the_client_gets_an_empty_response_that_looks_like_success() -> None:
    robot = _robot(A)
    robot.on_call(ONE, 0)
    robot.on_error(ONE, A, LinkLost("gone"), 3)
    assert robot.next_timer_ns() == S
    assert robot.on_timer(S - 1) == []
    assert robot.on_timer(S) == [Deliver(ONE, NOBODY, EMPTY, S)]
    assert robot.next_timer_ns() is None


def test_the_dead_stay_in_the_table() -> None:
    robot = _robot(A, B)
    robot.on_leave(A, SAID, 0)
    assert _asked(robot.on_call(ONE, 0)) == [A, B]


def test_closing_fails_what_runs_and_what_waits() -> None:
    robot = _robot(A)
    robot.on_call(ONE, 0)
    robot.on_call(TWO, 2)
    error = NotExecuted("closing")
    assert robot.close(error, 5) == [Fail(ONE, error, 5), Fail(TWO, error, 3)]
    robot.check()
