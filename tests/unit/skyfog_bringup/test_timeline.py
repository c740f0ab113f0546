"""A trace as requests: their time lines, who was withdrawn, and the figures of all."""

from __future__ import annotations

from typing import Any

import pytest

from skyfog_bringup.timeline import MAX_OPEN, Newest, Request, Slowest, Timelines, Wanted, timeline
from skyfog_core.units import MS

SERVICE = "/detect"


def event(name: str, at_ms: float, **fields: Any) -> dict[str, Any]:
    return {"t_ns": round(at_ms * MS), "event": name, "service": SERVICE, **fields}


def sent(request_id: str, at_ms: float, replica: str, why: str = "first") -> dict[str, Any]:
    return event("sent", at_ms, id=request_id, replica=replica, why=why, budget_ms=500)


HEDGED = [
    sent("aa", 1_000, "a/0"),
    sent("aa", 1_040, "b/0", "hedge"),
    event("delivered", 1_084.2, id="aa", replica="b/0", ms=84.2),
]
FAILED = [
    sent("bb", 2_000, "a/0"),
    event("refused", 2_003, id="bb", replica="a/0", error="NotExecuted", why="full"),
    sent("bb", 2_003, "b/0", "retry"),
    event("ejected", 2_100, replica="a/0", why="3 failures in a row (out for 1000 ms)"),
    event("failed", 2_500, id="bb", error="DeadlineExceeded", why="no valid reply", ms=500.0),
]


def ended(timelines: Timelines, events: list[dict[str, Any]]) -> list[Request]:
    return [request for e in events if (request := timelines.add(e)) is not None]


def test_a_hedged_request_is_told_step_by_step() -> None:
    (request,) = ended(Timelines(), HEDGED)
    assert list(timeline(request)) == [
        "aa  /detect  delivered by b/0 after 84.2 ms",
        "       0.0 ms  asked a/0 (first), 500 ms left",
        "      40.0 ms  asked b/0 (hedge), 500 ms left",
        "      84.2 ms  b/0 answered; delivered",
        "               withdrawn from a/0",
    ]


def test_a_failed_request_says_why_and_what_happened_to_the_fleet_meanwhile() -> None:
    (request,) = ended(Timelines(), FAILED)
    assert list(timeline(request)) == [
        "bb  /detect  DeadlineExceeded after 500.0 ms",
        "       0.0 ms  asked a/0 (first), 500 ms left",
        "       3.0 ms  a/0 gave no result: NotExecuted: full",
        "       3.0 ms  asked b/0 (retry), 500 ms left",
        "     100.0 ms  a/0 ejected: 3 failures in a row (out for 1000 ms)",
        "     500.0 ms  failed: DeadlineExceeded: no valid reply",
        "               withdrawn from b/0",
    ]


def test_what_happens_to_another_service_is_no_part_of_it() -> None:
    events = [sent("aa", 0, "a/0"), {**event("left", 1, replica="z/0"), "service": "/plan"}]
    events.append(event("delivered", 2, id="aa", replica="a/0", ms=2.0))
    (request,) = ended(Timelines(), events)
    assert [step.event for step in request.steps] == ["sent", "delivered"]


def test_the_summary_counts_why_and_who() -> None:
    timelines = Timelines()
    ended(timelines, [*HEDGED, *FAILED])
    summary = timelines.summaries[SERVICE]
    assert summary.requests == 2
    assert summary.outcomes == {"delivered": 1, "DeadlineExceeded": 1}
    assert summary.sends == {"first": 2, "hedge": 1, "retry": 1}
    a, b = summary.replicas["a/0"], summary.replicas["b/0"]
    assert (a.asked, a.won, a.refused, a.withdrawn, a.ejected) == (2, 0, 1, 1, 1)
    assert (b.asked, b.won, b.refused, b.withdrawn, b.ejected) == (2, 1, 0, 1, 0)
    assert summary.quantile_ms(0.99) == pytest.approx(84.2)


def test_quantiles_are_latencies_that_were_seen() -> None:
    timelines = Timelines()
    for i in range(1, 101):
        ended(timelines, [sent(str(i), 0, "a/0"), event("delivered", i, id=str(i), replica="a/0", ms=float(i))])
    summary = timelines.summaries[SERVICE]
    assert [summary.quantile_ms(q) for q in (0.5, 0.99, 1.0)] == [51.0, 100.0, 100.0]


def test_an_answer_that_was_kept_for_a_better_one_is_not_withdrawn() -> None:
    events = [
        sent("cc", 0, "a/0"),
        sent("cc", 0, "b/0", "copy"),
        event("answered", 20, id="cc", replica="a/0"),
        event("answered", 30, id="cc", replica="b/0"),
        event("delivered", 100, id="cc", replica="a/0", ms=100.0),
    ]
    (request,) = ended(Timelines(), events)
    assert request.withdrawn == []
    assert "      20.0 ms  a/0 answered; kept, not yet delivered" in list(timeline(request))


def test_a_copy_on_trial_is_heard_to_the_end_and_begins_no_request_anew() -> None:
    timelines = Timelines()
    events = [
        sent("ee", 0, "a/0"),
        sent("ee", 0, "b/0", "probe"),
        event("delivered", 20, id="ee", replica="a/0", ms=20.0),
        event("refused", 90, id="ee", replica="b/0", error="ServiceFailed", why="out of memory"),
    ]
    (request,) = ended(timelines, events)
    assert request.withdrawn == []
    assert not timelines.open


def test_an_answer_of_the_fallback_on_the_robot_is_told_as_such() -> None:
    events = [sent("gg", 0, "robot/0", "local"), event("delivered", 9, id="gg", replica="robot/0", ms=9.0, local=True)]
    (request,) = ended(Timelines(), events)
    assert "       9.0 ms  robot/0 answered; delivered (the fallback on the robot)" in list(timeline(request))


def test_a_request_that_nobody_was_asked_for_is_told_too() -> None:
    (request,) = ended(Timelines(), [event("failed", 300, id="ff", error="NoReplica", why="nobody", ms=300.0)])
    assert next(timeline(request)) == "ff  /detect  NoReplica after 300.0 ms"


def test_requests_that_never_end_are_forgotten_in_the_end() -> None:
    timelines = Timelines()
    for i in range(MAX_OPEN + 5):
        timelines.add(sent(str(i), i, "a/0"))
    assert len(timelines.open) == MAX_OPEN
    assert "0" not in timelines.open


def test_events_of_a_later_version_are_passed_over() -> None:
    timelines = Timelines()
    assert timelines.add({"t_ns": 1, "event": "weighed", "service": SERVICE}) is None
    assert not timelines.open


def done(request_id: str, ms: float, outcome: str = "delivered") -> Request:
    return Request(request_id, SERVICE, [], outcome, started_ns=0, ended_ns=round(ms * MS))


def test_the_slowest_come_first_and_no_more_than_asked_for() -> None:
    kept = Slowest(2)
    for request_id, ms in (("a", 5), ("b", 50), ("c", 50), ("d", 7)):
        kept.add(done(request_id, ms))
    assert [request.id for request in kept.requests()] == ["b", "c"]


def test_the_newest_come_in_their_order() -> None:
    kept = Newest(2)
    for request_id in "abc":
        kept.add(done(request_id, 1))
    assert [request.id for request in kept.requests()] == ["b", "c"]


def test_wanted_is_by_the_beginning_of_the_id_and_by_failure() -> None:
    assert Wanted("ab")(done("abcd", 1))
    assert not Wanted("ab")(done("cab", 1))
    assert not Wanted(failed_only=True)(done("a", 1))
    assert Wanted(failed_only=True)(done("a", 1, "NoReplica"))
