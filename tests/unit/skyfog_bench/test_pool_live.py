"""What a live run of a pool comes to, from what was seen, called and run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from skyfog_bench.messages import number
from skyfog_bench.pace import Call
from skyfog_bench.pool_live import record
from skyfog_bench.pool_live.record import Second
from skyfog_core.units import MS, S
from skyfog_core.wire.keys import ReplicaKey

A, B = ReplicaKey("live-1a", "live-1"), ReplicaKey("live-2a", "live-2")


def second(at_s: float, *live: ReplicaKey, states: dict[int, str] | None = None) -> Second:
    return Second(round(at_s * S), True, 2, list(live), len(live), states or {})


def call(due_s: float, took_ms: float | None, lane: int, index: int, status: int = 0) -> Call:
    due_ns = round(due_s * S)
    answered_ns = None if took_ms is None else due_ns + round(took_ms * MS)
    return Call(due_ns, due_ns, answered_ns, None if took_ms is None else status, number(lane, index), 1)


CALLS = {
    "idempotent": [call(0.1, 10.0, 0, 0), call(1.2, 30.0, 0, 1), call(1.4, None, 0, 2)],
    "once": [call(0.3, 10.0, 1, 0), call(1.1, 500.0, 1, 1, status=4)],
}


def test_each_second_has_its_calls_its_replicas_and_what_became_of_them() -> None:
    first = second(0.0, A, B, states={1: "READY", 2: "READY"})
    later = second(1.0, A, states={1: "READY", 3: "STARTING", 4: "STARTING"})
    later.did = ["zone live-2a cut off"]
    rows = record.rows([first, later], CALLS, 0)
    assert [row["s"] for row in rows] == [0, 1]
    assert [row["by_zone"] for row in rows] == ["1/0/1", "1/0/0"]
    assert [(row["calls"], row["failed"], row["once"]) for row in rows] == [(2, 0, 0), (3, 1, 1)]
    assert rows[1]["max_ms"] == 30.0, "of what was answered"
    assert (rows[0]["became"], rows[1]["became"]) == ("", "STARTING 3 4, gone 2")
    assert rows[1]["did"] == "zone live-2a cut off"


def test_a_lane_counts_what_was_lost_what_failed_and_what_several_ran() -> None:
    ran = {"live-1": Counter({number(0, 0): 1, number(1, 0): 1}), "live-2": Counter({number(0, 0): 1})}
    idempotent, once = record.lane_rows(CALLS, ran)
    assert (idempotent["calls"], idempotent["lost"], idempotent["failed"]) == (3, 1, 1)
    assert (idempotent["runs"], idempotent["run_by_several"]) == (2, 1)
    assert (once["lost"], once["failed"], once["runs"], once["run_by_several"]) == (0, 1, 1, 0)


def test_a_call_that_two_replicas_ran_was_not_run_twice_by_one() -> None:
    assert record.twice({"live-1": Counter({7: 1}), "live-2": Counter({7: 1})}) == 0
    assert record.twice({"live-1": Counter({7: 2, 8: 1})}) == 1


def test_how_soon_robots_stop_asking_is_that_of_the_slowest(tmp_path: Path) -> None:
    def trace(name: str, *events: tuple[str, int]) -> Path:
        path = tmp_path / name
        lines = [json.dumps({"event": event, "t_ns": ms * MS, "replica": str(A)}) for event, ms in events]
        path.write_text("\n".join(lines))
        return path

    traces = [
        trace("r", ("sent", 90), ("sent", 120), ("left", 130)),
        trace("s", ("left", 50), ("sent", 110), ("left", 140)),
    ]
    assert list(record.stops(traces, [(100 * MS, A)])) == [(A, 40.0, 20.0)]
    assert list(record.stops(traces, [(100 * MS, B)])) == [], "it never left"


def test_the_target_is_restored_when_it_is_kept_to_the_end() -> None:
    seen = [second(0, A, B), second(1, A), second(2, A, B), second(3, A), second(4, A, B), second(5, A, B)]
    assert record.restored_s(seen, 2, 0) == 4.0
    assert record.restored_s(seen, 2, 4 * S) == 0.0
    assert record.restored_s([*seen, second(6, A)], 2, 0) is None
