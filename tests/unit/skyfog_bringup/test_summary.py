"""The figures of a run."""

from __future__ import annotations

from skyfog_bringup.demo.ledger import Membership, Request
from skyfog_bringup.demo.schedule import FaultKind
from skyfog_bringup.demo.summary import Injected, Latency, events, goals, latency_of, phases, rows
from skyfog_core.units import MS, S

WEST, EAST = "us-west-2a/0", "us-east-1b/1"


def request(at_ms: float, took_ms: float, replica: str = WEST, why: str = "") -> Request:
    sent_ns = round(at_ms * MS)
    return Request(
        0, "cat", sent_ns, sent_ns + round(took_ms * MS), ok=not why, why=why, replica="" if why else replica
    )


def test_each_quantile_is_a_latency_that_was_seen() -> None:
    found = latency_of([request(i, took) for i, took in enumerate((10, 20, 30, 1000))])
    assert found == Latency(p50=30, p90=1000, p99=1000, max=1000)


def test_failures_have_no_latency() -> None:
    assert latency_of([request(0, 4000, why="no answer")]) == Latency(None, None, None, None)
    assert latency_of([request(0, 5), request(0, 4000, why="no answer")]).max == 5


def test_a_request_belongs_to_the_phase_in_which_it_was_sent() -> None:
    kill = Injected(FaultKind.KILL, WEST, 1 * S)
    sent = [request(0, 50), request(990, 60, EAST), request(1000, 70, EAST), request(1500, 4000, why="no answer")]
    before, after, whole = phases(sent, [kill], 0, 2 * S)
    assert (before.name, before.requests, before.failed, before.won) == (
        "all healthy",
        2,
        0,
        {"us-west-2a": 1, "us-east-1b": 1},
    )
    assert (after.name, after.requests, after.failed, after.won) == ("us-west-2a killed", 2, 1, {"us-east-1b": 1})
    assert (whole.name, whole.requests, whole.failed, whole.from_s, whole.to_s) == ("whole run", 4, 1, 0, 2)


def test_the_story_of_a_kill() -> None:
    kill = Injected(FaultKind.KILL, WEST, 1 * S)
    sent = [request(990, 95, EAST), request(1200, 90, EAST)]
    left = [Membership(1 * S + 7 * MS, WEST, there=False)]
    assert [(round(event.at_s, 3), event.text) for event in events(sent, [kill], left, 0)] == [
        (1.0, "SIGKILL to us-west-2a; seen as gone 7 ms later"),
        (1.085, "us-east-1b answers next, in 95 ms; 1 under way, all answered"),
    ]


def test_the_story_of_a_freeze_and_a_failure() -> None:
    freeze = Injected(FaultKind.FREEZE, WEST, 1 * S)
    found = events([request(1500, 4000, why="no answer within 4000 ms")], [freeze], [], 0)
    assert [event.text for event in found] == [
        "SIGSTOP to us-west-2a; its connection stays open, so it still counts as there",
        "failed: cat: no answer within 4000 ms",
    ]


def test_goals_ask_for_every_fault_and_no_failure() -> None:
    good = phases([request(0, 50)], [], 0, S)
    assert all(goal["met"] for goal in goals(good, 2, 2))
    assert [goal["met"] for goal in goals(good, 2, 1)] == [True, True, False]
    failed = phases([request(0, 50), request(0, 4000, why="x")], [], 0, S)
    assert [goal["met"] for goal in goals(failed, 2, 2)] == [True, False, True]
    assert not goals(phases([], [], 0, S), 0, 0)[0]["met"], "a run without requests shows nothing"


def test_rows_have_the_documented_fields() -> None:
    (row,) = rows(phases([request(0, 50)], [], 0, S)[-1:])
    assert row == {
        "phase": "whole run",
        "from_s": 0.0,
        "to_s": 1.0,
        "requests": 1,
        "failed": 0,
        "p50_ms": 50.0,
        "p90_ms": 50.0,
        "p99_ms": 50.0,
        "max_ms": 50.0,
        "won": {"us-west-2a": 1},
    }
