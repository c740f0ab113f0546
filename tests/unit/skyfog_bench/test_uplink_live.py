"""What a live run of the uplink comes to, from what was shot, heard and traced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skyfog_bench.processes import BenchError
from skyfog_bench.uplink_live import calibrate, record, verdict
from skyfog_bench.uplink_live.record import Figures, Run, Seen
from skyfog_bench.uplink_live.stage import Look
from skyfog_bench.uplink_live.verdict import Fault
from skyfog_core.units import MS, S
from skyfog_uplink.policy.model import FLOOR, Floor, Option, Service, Table, constant
from skyfog_uplink.policy.tables import load_table

TEN = constant(10.0)
OPTIONS = tuple(Option(name, "m", accuracy, TEN, TEN, TEN) for name, accuracy in (("small", 0.5), ("large", 0.9)))


def _service(name: str, weight: float) -> Service:
    floor = Floor("f", 0.2, TEN)
    return Service(name, "/detect", "Detect", 3.0, 500.0, 0.99, weight, floor, OPTIONS)


TABLE = Table("cars", "", (_service("front", 2.0), _service("left", 1.0)))


def shot(at_s: float) -> dict[str, Any]:
    return {"index": round(at_s * 3), "stamp_ns": round(at_s * S) + 7, "shot_ns": round(at_s * S)}


def answer(service: str, at_s: float, source: str, ms: float, option: str = "") -> dict[str, Any]:
    accuracy = {"small": 0.5, "large": 0.9}.get(option, 0.2)
    return {
        "at_ns": round(at_s * S + ms * MS),
        "kind": "answer",
        "service": service,
        "stamp_ns": shot(at_s)["stamp_ns"],
        "source": source,
        "option": option,
        "latency_ms": ms,
        "accuracy": accuracy,
    }


def plan(at_s: float, *options: int) -> dict[str, Any]:
    grants = [{"option": option} for option in options]
    return {"at_ns": round(at_s * S), "kind": "plan", "budget_bps": 1e6, "grants": grants}


def ended(at_s: float, outcome: str, **more: Any) -> dict[str, Any]:
    line = {"t_ns": round(at_s * S), "event": "ended", "service": "front", "option": 0, "probe": False}
    return line | {"outcome": outcome, "bytes": 100, "pre_ms": 5.0, "cloud_ms": 40.0, "link_ms": 30.0} | more


SHOTS = {"front": [shot(at) for at in (0.5, 1.0, 1.5, 2.0, 9.0)], "left": [shot(1.2)]}
HEARD = [
    plan(0.1, FLOOR, FLOOR),
    plan(0.9, 0, FLOOR),
    answer("front", 1.0, "car", 80),
    answer("front", 1.0, "cloud", 200, "small"),
    answer("front", 1.0, "cloud", 400, "large"),
    plan(1.4, 1, FLOOR),
    answer("front", 1.5, "car", 90),
    answer("front", 1.5, "cloud", 501, "large"),
    answer("front", 2.0, "car", 700),
    answer("left", 1.2, "cloud", 100, "small"),
    plan(2.5, 0, FLOOR),
    {"at_ns": 2 * S, "kind": "state", "sent_bps": 5e5},
    {"at_ns": 2 * S, "kind": "link", "up": True, "rate_p50_bps": 2e6, "rate_p05_bps": 1e6, "rtt_ms": 33.0},
]
TRACED = [
    {"t_ns": 1 * S, "event": "plan"},
    ended(1.3, "on_time"),
    ended(1.4, "on_time", probe=True, option=1),
    ended(2.0, "late"),
    ended(2.2, "withheld", cloud_ms=None, link_ms=None),
    ended(9.0, "lost"),
]


def cut() -> Run:
    return record.cut(TABLE, 1 * S, 3 * S, SHOTS, HEARD, TRACED)


def test_an_image_has_the_best_answer_that_was_published_within_the_slo() -> None:
    first, left, late_cloud, late_car = cut().seen
    assert first == Seen(0, 1 * S, 80, 1, 400, heard=True)
    assert left == Seen(1, round(1.2 * S), None, 0, 100, heard=True)
    assert late_cloud == Seen(0, round(1.5 * S), 90, FLOOR, None, heard=True)
    assert late_car == Seen(0, 2 * S, None, FLOOR, None, heard=True)
    assert [one.answered for one in cut().seen] == [True, True, True, False]


def test_an_image_of_which_nothing_was_ever_heard_is_told_apart() -> None:
    (seen,) = record.cut(TABLE, 8 * S, 10 * S, SHOTS, HEARD, TRACED).seen
    assert (seen.answered, seen.heard) == (False, False)


def test_figures_count_images_once_and_probes_not_as_offloaded() -> None:
    found = record.figures(TABLE, cut())
    assert found.utility == pytest.approx((2 * 0.9 + 1 * 0.5 + 2 * 0.2 + 0) / 7)
    assert (found.met, found.by_cloud) == (3 / 4, 2 / 4)
    assert (found.offloaded, found.missed, found.withheld) == (2 / 4, 1 / 2, 1 / 3)
    assert (found.changes, found.flaps) == (2 * 30, 1 * 30), "a minute; the run has two seconds"


def test_a_flap_is_a_change_that_is_taken_back_soon() -> None:
    def flaps(*plans: tuple[float, int]) -> tuple[int, int]:
        return record.flaps_of([(round(at * S), (option,)) for at, option in plans])

    assert flaps((0, 1)) == (0, 0)
    assert flaps((0, 1), (1, 2), (2, 1)) == (2, 1)
    assert flaps((0, 1), (1, 2), (7, 1)) == (2, 0), "that late it is another decision"
    assert flaps((0, 1), (1, 2), (2, 0)) == (2, 0)


def test_the_timeline_has_a_row_a_second_with_the_plan_in_force() -> None:
    rows = record.timeline(cut(), lambda begin_ns, end_ns: (end_ns - begin_ns) // 1_000)
    assert [(row["s"], row["link_mbps"], row["options"]) for row in rows] == [(0, 1.0, "1/-1"), (1, 1.0, "0/-1")]
    assert [(row["images"], row["answered"], row["by_cloud"], row["missed"]) for row in rows] == [
        (3, 3, 2, 0),
        (1, 0, 0, 1),
    ]
    assert (rows[1]["up"], rows[1]["p50_mbps"], rows[1]["sent_mbps"]) == (True, 2.0, 0.5)
    assert rows[0]["sent_mbps"] is None


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    assert record.lines(path) == []
    path.write_text(json.dumps({"a": 1}) + "\n" + '{"a": ')
    assert record.lines(path) == [{"a": 1}]


def test_an_option_that_was_hardly_used_takes_the_times_of_the_others() -> None:
    lines = [ended(1.0, "on_time", pre_ms=float(at), cloud_ms=50.0, option=0) for at in range(30)]
    lines += [ended(1.0, "late", pre_ms=99.0, cloud_ms=900.0, option=1)]
    run = Run(0, S, [Seen(at, 0, 70.0, FLOOR, None, heard=True) for at in (0, 1)], lines, [], [], [])
    times = calibrate.times(TABLE, run)
    assert set(times.cloud["front", 0]) == {50.0}
    assert len(times.pre["front", 1]) == 31, "of its service"
    assert len(times.pre["left", 0]) == 31, "of all"
    assert set(times.cloud["left", 1]) == {50.0}, "a late answer may have waited for something else"
    assert times.floor == {"front": [70.0], "left": [70.0]}


def test_nothing_is_made_of_a_run_in_which_the_car_answered_nothing() -> None:
    run = Run(0, S, [Seen(0, 0, 70.0, FLOOR, None, heard=True)], [ended(0.5, "on_time")], [], [], [])
    with pytest.raises(BenchError, match="nothing for left"):
        calibrate.times(TABLE, run)


def test_a_measured_table_can_be_loaded_and_holds_what_was_measured(tmp_path: Path) -> None:
    sizes = {name: np.array([[100, 1_000], [200, 3_000]]) for name in ("front", "left")}
    samples = {(name, option): [10.0, 20.0, 30.0] for name in ("front", "left") for option in (0, 1)}
    times = calibrate.Times(samples, samples, {"front": [80.0, 900.0], "left": [80.0]})
    made = calibrate.measured_table(TABLE, sizes, times)
    calibrate.write(made, tmp_path / "table.yaml")
    front = load_table(tmp_path / "table.yaml").services[0]
    assert (front.rate_hz, front.slo_ms, front.weight) == (3.0, 500.0, 2.0)
    assert front.options[1].bytes.quantile(0.99) == pytest.approx(2_500, abs=600)
    assert front.options[0].exec_ms.quantile(0.5) == pytest.approx(20, abs=1)
    assert front.floor.exec_ms.quantile(0.99) <= 500, (
        "a floor may be late at times, and the table must load all the same"
    )


def test_many_samples_become_quantiles() -> None:
    found = calibrate.distribution([float(at) for at in range(1_000)])
    assert len(found.values) == calibrate.VALUES
    assert found.mean == pytest.approx(499.5, abs=1)


def test_shares_are_compared_in_points_and_utility_relative() -> None:
    assert verdict.difference("missed", 0.03, 0.01) == pytest.approx(0.02)
    assert verdict.difference("utility", 0.5, 0.4) == pytest.approx(0.2)
    assert verdict.difference("changes", 0.0, 0.0) == 0.0


def test_live_and_simulation_stand_side_by_side() -> None:
    live = cut()
    beside = [Figures(0.4, 1.0, 0.5, 0.5, 0.0, 0.0, 60.0, 0.0), Figures(0.5, 1.0, 0.7, 0.5, 0.0, 0.0, 80.0, 0.0)]
    looks = [Look(at * S, 0.5, 1.0, 80.0 + at) for at in range(1, 4)]
    rows = verdict.drive_rows("lte", TABLE, live, beside, record.timeline(live, None), looks)
    by_cloud = next(row for row in rows if row.get("figure") == "by cloud")
    assert (by_cloud["live"], by_cloud["simulation"], by_cloud["lowest"], by_cloud["highest"]) == (0.5, 0.6, 0.5, 0.7)
    assert by_cloud["difference"] == pytest.approx(0.1)
    short = verdict.drive_goals("lte", TABLE, live, beside)[0]
    assert (short.met, short.why) == (None, "2 s are too short to compare")
    long = replace(live, end_ns=live.begin_ns + 60 * S)
    goals = {goal.name: goal for goal in verdict.drive_goals("lte", TABLE, long, beside)}
    assert goals["lte: met, live and simulation apart"].met is False
    assert goals["lte: offloaded, live and simulation apart"].met is True
    assert goals["lte: missed of the offloaded"].value == 0.5
    assert goals["lte: images without any answer"].value == 0


def test_a_fault_counts_what_was_answered_and_when_the_cloud_was_back() -> None:
    seen = [
        Seen(0, 1 * S, 70.0, 1, 300.0, heard=True),
        Seen(0, 3 * S, 70.0, FLOOR, None, heard=True),
        Seen(0, 4 * S, None, FLOOR, None, heard=False),
        Seen(0, 7 * S, 70.0, 1, 400.0, heard=True),
        Seen(0, 9 * S, 70.0, 1, 200.0, heard=True),
    ]
    links = [{"at_ns": round(at * S), "up": up} for at, up in ((1, True), (2.3, False), (6.1, False), (6.5, True))]
    live = Run(0, 10 * S, seen, [], [], links, [])
    faults = [Fault("cut", 2 * S, 6 * S), Fault("back", 6 * S, 8 * S), Fault("killed", 8 * S, 10 * S)]
    looks = [Look(at * S + 1, 0.5, 1.0, 80.0 + at) for at in range(10)]
    rows = verdict.fault_rows(live, faults, looks)
    assert [(row["images"], row["answered"], row["without_any"]) for row in rows] == [(2, 1, 1), (1, 1, 0), (1, 1, 0)]
    assert [row["link_up_after_s"] for row in rows] == [None, 0.5, None]
    assert [row["cloud_after_s"] for row in rows] == [None, pytest.approx(1.4), pytest.approx(1.2)]
    goals = {goal.name: goal.value for goal in verdict.fault_goals(live, faults, looks)}
    assert goals["faults: images without any answer"] == 1
    assert goals["link cut and back: until the car sees it"] == 0.5
    assert goals["gateway killed: until the cloud answers again"] == pytest.approx(1.2)
