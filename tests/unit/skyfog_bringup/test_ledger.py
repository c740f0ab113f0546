"""The camera's record joined with the robot's trace."""

from __future__ import annotations

from typing import Any

from skyfog_bringup.demo.ledger import Ledger
from skyfog_core.units import MS


def record(index: int, sent_ms: int, took_ms: int, *, ok: bool = True) -> dict[str, Any]:
    sent_ns = sent_ms * MS
    return {
        "index": index,
        "image": f"photo{index}",
        "sent_ns": sent_ns,
        "done_ns": sent_ns + took_ms * MS,
        "ok": ok,
        "why": "" if ok else "gone",
        "detections": [],
    }


def delivered(at_ms: int, took_ms: int, replica: str) -> dict[str, Any]:
    return {"event": "delivered", "t_ns": at_ms * MS, "ms": float(took_ms), "replica": replica}


def test_each_request_finds_its_winner() -> None:
    ledger = Ledger()
    ledger.add(
        [record(0, 0, 50), record(1, 200, 60)],
        [delivered(48, 45, "a/0"), delivered(258, 55, "b/1")],
    )
    assert [(request.index, request.replica) for request in ledger.requests] == [(0, "a/0"), (1, "b/1")]
    assert [request.ms for request in ledger.requests] == [50.0, 60.0]


def test_overlapping_requests_are_told_apart_by_when_they_were_called() -> None:
    ledger = Ledger()
    ledger.add(
        [record(1, 200, 90), record(0, 0, 400)],  # the first was answered last
        [delivered(288, 85, "fast/1"), delivered(398, 396, "slow/0")],
    )
    assert {request.index: request.replica for request in ledger.requests} == {0: "slow/0", 1: "fast/1"}


def test_a_proxy_that_was_held_up_delivers_in_order() -> None:
    """Two requests wait for a busy proxy, which calls for both at once."""
    ledger = Ledger()
    ledger.add(
        [record(1, 200, 160), record(0, 0, 500)],
        [delivered(358, 57, "a/0"), delivered(498, 198, "b/1")],  # called at 301 and 300
    )
    assert {request.index: request.replica for request in ledger.requests} == {1: "a/0", 0: "b/1"}


def test_the_trace_may_come_after_the_record() -> None:
    ledger = Ledger()
    ledger.add([record(0, 0, 50)], [])
    assert ledger.requests[0].replica == ""
    ledger.add([], [delivered(48, 45, "a/0")])
    assert ledger.requests[0].replica == "a/0"


def test_a_failed_request_has_no_winner() -> None:
    ledger = Ledger()
    ledger.add([record(0, 0, 50, ok=False), record(1, 10, 50)], [delivered(55, 44, "a/0")])
    assert [request.replica for request in ledger.requests] == ["", "a/0"]


def test_another_clients_requests_are_left_alone() -> None:
    ledger = Ledger()
    ledger.add([record(0, 100, 50)], [delivered(90, 20, "other/0"), delivered(148, 45, "a/0")])
    assert ledger.requests[0].replica == "a/0"


def test_members_come_and_go() -> None:
    ledger = Ledger()
    ledger.add([], [{"event": kind, "t_ns": 1, "replica": who} for kind, who in (("joined", "a/0"), ("joined", "b/1"))])
    ledger.add([], [{"event": "left", "t_ns": 2, "replica": "a/0"}, {"event": "sent", "t_ns": 3}])
    assert ledger.live() == {"b/1"}


def test_complete_only_when_nothing_before_can_be_open() -> None:
    ledger = Ledger()
    ledger.add([record(0, 0, 50), record(2, 400, 50)], [])
    assert not ledger.complete_until(300 * MS), "request 1 is still open"
    ledger.add([record(1, 200, 900)], [])
    assert ledger.complete_until(300 * MS)
    assert not ledger.complete_until(500 * MS), "another may have been sent before then"
    assert [request.index for request in ledger.between(0, 300 * MS)] == [0, 1]
