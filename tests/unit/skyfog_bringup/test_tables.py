"""Tables of `skyfog status` and `skyfog replicas`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest
from rich.console import Console, Group, RenderableType

from skyfog_bringup import tables
from skyfog_bringup.observe import LEAST_WIDTH
from skyfog_bringup.timeline import Share, Summary
from skyfog_router.report import ServiceReport
from support.snapshots import replica, report


def shown(part: RenderableType) -> list[str]:
    console = Console(width=200, highlight=False)
    with console.capture() as capture:
        console.print(part)
    return [" ".join(line.split()) for line in capture.get().splitlines() if line.strip()]


def test_status_has_a_row_a_robot_and_service() -> None:
    header, _, first, second = shown(tables.status_table([report(), report("bert", "/plan", failed=3)]))
    assert header == ("robot service policy rank called failed p50 ms p99 ms SLO ms within extra open healthy")
    assert first == "anna /detect slo peak_ewma 101 0 41 150 200 99.0 % 29.7 % 1 2/2"
    assert second == "bert /plan slo peak_ewma 101 3 41 150 200 96.1 % 29.7 % 1 2/2"


def test_status_names_who_is_not_well_and_what_failed() -> None:
    states = (replica(), replica(zone="b", state="ejected", why="x"), replica(zone="c", state="suspect"))
    failures = {"NoReplica": 2, "DeadlineExceeded": 1}
    (_, _, row, line) = shown(tables.status_table([report(replicas=states, panic=True, failures=failures)]))
    assert row.endswith("1 1/3")
    assert line == "anna /detect: panic: all are asked, b/0 ejected, c/0 suspect, 1 DeadlineExceeded, 2 NoReplica"
    (*_, row, line) = shown(tables.status_table([report(replicas=())]))
    assert row.endswith("1 0/0")
    assert line == "anna /detect: no replica"


def test_what_is_unknown_is_a_dash() -> None:
    nothing = {"called": 0, "delivered": 0, "p50_ms": None, "p99_ms": None, "slo_ms": None, "within_slo": 0}
    (_, _, row) = shown(tables.status_table([report("", extra=0, rescues=0, **nothing)]))
    assert row == "- /detect slo peak_ewma 0 0 - - - - - 1 2/2"


def test_replicas_have_a_row_each_with_state_and_why() -> None:
    out = replica(zone="b", state="ejected", why="silent", ejections=2, back_in_ms=1_500.0, p50_ms=None, p99_ms=None)
    states = (replica(), out, replica(zone="robot", local=True, price_per_hour=0.0))
    header, _, first, second, third, line = shown(tables.replicas_table([report(replicas=states)]))
    assert header == "robot service replica $/h busy queue asked won failed p50 ms p99 ms ejected state"
    assert first == "anna /detect us-west/0 0.35 1/4 2 100 60 3 42.5 180 0 healthy"
    assert second == "anna /detect b/0 0.35 1/4 2 100 60 3 - - 2 ejected"
    assert third == "anna /detect robot/0 (local) - 1/4 2 100 60 3 42.5 180 0 healthy"
    assert line == "anna /detect b/0 ejected for 1.5 s more: silent"


def test_names_are_never_taken_for_markup() -> None:
    (*_, line) = shown(tables.replicas_table([report(replicas=(replica(state="ejected", why="[red]x[/red]"),))]))
    assert line.endswith("ejected: [red]x[/red]")


@pytest.mark.parametrize("table", [tables.status_table, tables.replicas_table])
def test_tables_lose_nothing_at_their_least_width(table: Callable[[list[ServiceReport]], Group]) -> None:
    long = replica(zone="eu-central-1b", replica="spot-17", state="backing_off", why="it is overloaded")
    console = Console(width=LEAST_WIDTH, highlight=False)
    with console.capture() as capture:
        console.print(table([report("robot-7", "/arm/plan_motion", replicas=(long,), called=1_234_567)]))
    assert "…" not in capture.get()


def test_json_has_every_field_and_null_for_what_is_unknown() -> None:
    (found,) = json.loads(json.dumps(tables.plain([report(p99_ms=None)])))
    assert (found["robot"], found["service"], found["p99_ms"], found["called"]) == ("anna", "/detect", None, 101)
    assert [r["zone"] for r in found["replicas"]] == ["us-west", "us-east"]
    first, _ = tables.plain_replicas([report()])
    assert (first["robot"], first["service"], first["zone"], first["p50_ms"]) == ("anna", "/detect", "us-west", 42.5)


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, "-"),
        (0, 5, "0.0 %"),
        (1, 8, "12.5 %"),
        (1, 10_000, "<0.1 %"),
        (9_999, 10_000, ">99.9 %"),
        (3, 3, "100.0 %"),
        (7, 2, "350.0 %"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(part: float, whole: float, expected: str) -> None:
    assert tables.percent(part, whole) == expected


@pytest.mark.parametrize(("value", "expected"), [(None, "-"), (0.5, "0.5"), (42.46, "42.5"), (1234.6, "1,235")])
def test_milliseconds_have_three_figures(value: float | None, expected: str) -> None:
    assert tables.milliseconds(value) == expected


def test_a_summary_tells_outcomes_latencies_reasons_and_shares() -> None:
    summary = Summary(
        Counter(delivered=3, NoReplica=1),
        Counter(first=4, hedge=2),
        {"a/0": Share(asked=4, won=2, refused=1), "b/0": Share(asked=2, won=1, withdrawn=1, ejected=1)},
        [10.0, 20.0, 30.0],
    )
    parts = [line for part in tables.summaries({"/detect": summary}, 2) for line in shown(part)]
    assert parts[:3] == [
        "/detect: 4 requests: 3 delivered, 1 NoReplica",
        "delivered in ms: p50 20, p90 30, p99 30, max 30",
        "6 sends (1.50 a request): 4 first, 2 hedge",
    ]
    assert parts[5:] == [
        "a/0 4 2 66.7 % 1 0 0",
        "b/0 2 1 33.3 % 0 1 1",
        "2 still open where the trace ends",
    ]
