"""Rules of /diagnostics: which level, and words that say why."""

from __future__ import annotations

from typing import Any

import pytest

from skyfog_core.diagnosis import Level
from skyfog_router.diagnosis import of_replica, of_service
from support.snapshots import CALM, QUIET, admission, replica, service


def test_a_calm_service_is_ok_with_its_figures() -> None:
    found = of_service(CALM, CALM)
    assert (found.level, found.message) == (Level.OK, "2 replicas")
    assert found.values["p99"] == "150 ms"
    assert found.values["replica us-west/0"] == "healthy"
    assert all(isinstance(value, str) for value in found.values.values())


def test_no_replica_is_an_error() -> None:
    found = of_service(service(replicas=()), CALM)
    assert (found.level, found.message) == (Level.ERROR, "no replica is there")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replicas": (replica(local=True),)}, "only the fallback on the robot is there"),
        (
            {"failed": 2, "delivered": 108, "failures": {"NoReplica": 2}},
            "2 of the last 10 requests failed (2 NoReplica)",
        ),
        ({"panic": True}, "panic: too few replicas are healthy, so all are asked"),
        ({"local": 3, "delivered": 104}, "the fallback on the robot answered 3 of the last 4"),
        (
            {"replicas": (replica(), replica(zone="b", state="ejected", why="3 failures in a row"))},
            "1 of 2 replicas ejected (b/0: 3 failures in a row)",
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_a_warning_that_names_it(changes: dict[str, Any], message: str) -> None:
    found = of_service(service(**changes), CALM)
    assert (found.level, found.message) == (Level.WARN, message)


def test_requests_of_which_none_was_answered_are_an_error() -> None:
    failures = {"DeadlineExceeded": 4, "NoQuorum": 1}
    found = of_service(service(failed=5, failures=failures), CALM)
    assert found.level is Level.ERROR
    assert found.message == "5 of the last 5 requests failed (4 DeadlineExceeded, 1 NoQuorum)"


def test_only_what_is_new_counts() -> None:
    past = service(failed=9, delivered=50, local=4, failures={"NoReplica": 9})
    assert of_service(past, past).level is Level.OK
    newer = service(failed=10, delivered=60, local=4, failures={"NoReplica": 9, "Overloaded": 1})
    assert of_service(newer, past).message == "1 of the last 11 requests failed (1 Overloaded)"


def test_the_first_look_counts_from_the_start() -> None:
    assert of_service(service(failed=1, delivered=1, failures={"Overloaded": 1}), None).level is Level.WARN


def test_the_worst_comes_first_and_nothing_is_left_out() -> None:
    found = of_service(service(replicas=(), panic=True, failed=1, delivered=101), CALM)
    assert found.level is Level.ERROR
    texts = found.message.split("; ")
    assert texts[0] == "no replica is there"
    assert len(texts) == 3


def test_suspects_and_those_on_trial_are_no_warning() -> None:
    states = (replica(), replica(zone="b", state="suspect"), replica(zone="c", state="probing"))
    assert of_service(service(replicas=states), CALM).level is Level.OK


def test_what_is_unknown_is_said_to_be() -> None:
    assert of_service(service(p99_ms=None, slo_ms=None), CALM).values["slo"] == "unknown"


def test_a_replica_that_takes_requests_is_ok_with_its_figures() -> None:
    found = of_replica(QUIET, QUIET, "", 1)
    assert (found.level, found.message) == (Level.OK, "takes requests")
    assert found.values["running"] == "1 of 4"
    assert found.values["queue depth"] == "2 of 64"
    assert found.values["refused: full"] == "5"


def test_a_replica_that_nobody_is_linked_with_is_an_error() -> None:
    found = of_replica(QUIET, QUIET, "", 0)
    assert (found.level, found.message) == (Level.ERROR, "linked with nobody")


@pytest.mark.parametrize(
    ("changes", "absent", "message"),
    [
        ({}, "it drains", "it drains"),
        ({"finished": 60, "failed": 5}, "", "2 of the last 11 runs failed"),
        ({"refused": {"full": 7, "hopeless": 1, "withdrawn": 9}}, "", "refused 2 (full), 1 (hopeless)"),
    ],
)
def test_a_replica_that_cannot_do_all_it_is_asked_is_a_warning(
    changes: dict[str, Any], absent: str, message: str
) -> None:
    found = of_replica(admission(**changes), QUIET, absent, 1)
    assert (found.level, found.message) == (Level.WARN, message)


def test_what_robots_withdraw_or_repeat_says_nothing_against_a_replica() -> None:
    now = admission(refused={"full": 5, "withdrawn": 40, "repeated": 3}, repeated=9)
    assert of_replica(now, QUIET, "", 1).level is Level.OK
