"""Each benchmark at a tiny size: the report's form and its counts, never its times."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from skyfog_bench import faults, fleet, overhead, perception, pick_place, soak, tail, world
from skyfog_bench.fogros2ft import bench as fogros2ft
from skyfog_bench.fogros2ft.record import Counts
from skyfog_bench.pool_live.stage import Size as PoolSize
from skyfog_bench.processes import BenchError, Processes
from skyfog_bench.run import run
from skyfog_bench.uplink_live.bench import Size as UplinkSize
from skyfog_bench.uplink_live.links import VERIZON
from skyfog_pool.provider.netem.network import why_not
from support.processes import is_alive, wait_until

pytestmark = [pytest.mark.ros, pytest.mark.alone, pytest.mark.timeout(400)]


def _run(name: str, size: Any, out: Path | None = None) -> dict[str, Any]:
    report = run(name, size, 1, lambda _text: None, out)
    assert list(report) == ["name", "commit", "machine", "seed", "rows", "goals"]
    assert (report["name"], report["seed"]) == (name, 1)
    assert not _children()
    return report


def _children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if "skyfog" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_overhead_measures_every_case_and_says_where_the_time_goes() -> None:
    calls = {overhead.KB: 3, overhead.MB: 2}
    report = _run("overhead", overhead.Size(rounds=2, calls=calls, traced_calls=9))
    cases = [(row["case"], row["request_bytes"], row["reply_bytes"]) for row in report["rows"] if "case" in row]
    assert len(cases) == len(set(cases)) == 12
    for row in report["rows"]:
        if "case" in row:
            assert row["calls"] == 2 * calls[row["request_bytes"]]
    parts = [row for row in report["rows"] if "embedded_call_spends_in" in row]
    assert len(parts) == 15  # five for each shape
    assert [goal["goal"] for goal in report["goals"]] == ["<= 3", "<= 2", "<= 2.5", "<= 1.7"]
    assert all(goal["met"] in {True, False} and len(goal["spread"]) == 2 for goal in report["goals"])


def test_a_live_pool_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    size = PoolSize(
        target=2, hz=5.0, seconds=20.0, notice_s=2.0, restore_s=60.0
    )  # a fault is made good before the next
    report = _run("pool_live", size, tmp_path / "report.json")
    timeline = [row for row in report["rows"] if "did" in row]
    seconds = [row["s"] for row in timeline]
    assert seconds == sorted(seconds)  # one is left out, or comes twice, where a fault took longer
    assert seconds[0] == 0
    assert len(seconds) >= 10
    said = "; ".join(row["did"] for row in timeline)
    assert said.count("controller killed") == said.count("controller started again") == 2
    assert {row["target"] for row in timeline} == {2}
    lanes = {row["lane"]: row for row in report["rows"] if "lane" in row}
    assert (lanes["idempotent"]["calls"], lanes["idempotent"]["failed"]) == (100, 0)
    counts = {goal["name"]: goal["value"] for goal in report["goals"]}
    assert counts["calls that one replica ran twice"] == 0
    assert counts["calls not to be run twice that several ran"] == 0
    assert counts["machines left after `down`"] == 0
    assert (tmp_path / "report.png").is_file()


@pytest.mark.skipif(bool(why_not()), reason=f"no emulated network: {why_not()}")
@pytest.mark.skipif(find_spec("mujoco") is None, reason="mujoco is not installed: ./ws extra world")
def test_a_live_uplink_is_laid_beside_its_simulation_and_leaves_nothing(tmp_path: Path) -> None:
    size = UplinkSize(3.0, 2.0, 2.0, 4.0, 2.0, 2.0, (VERIZON,), lead_s=1.0, seeds=1)
    report = _run("uplink_live", size, tmp_path / "report.json")
    options = [row for row in report["rows"] if "bytes_p50" in row]
    assert {row["service"] for row in options} == {"front", "left", "right"}
    assert all(row["bytes_p50"] > 500 and row["exec_p50_ms"] > 5 for row in options)
    services = {row["service"]: row for row in report["rows"] if "by_cloud" in row and "service" in row}
    assert list(services) == ["front", "left", "right"]
    assert all(row["images"] >= 6 for row in services.values())  # twelve, where no camera is held up
    figures = {row["figure"]: row for row in report["rows"] if "figure" in row}
    assert figures["utility"]["live"] > 0.1, "the floor's at least"
    assert 0 <= figures["by cloud"]["simulation"] <= 1
    faults = [row for row in report["rows"] if "fault" in row]
    assert [row["fault"].partition(" ")[2] for row in faults] == ["cut", "is back", "killed"]
    assert {path.name for path in tmp_path.iterdir()} == {"report.verizon.png", "report.faults.png"}


def test_soak_loses_nothing() -> None:
    report = _run("soak", soak.Size(hz=50.0, seconds=3.0))
    load = report["rows"][0]
    assert (load["sent"], load["answered"], load["lost"], load["failed"]) == (150, 150, 0, 0)
    assert [row["what"] for row in report["rows"][1:]] == ["robot_proxy", *(f"replica {z}" for z in "abc"), "client"]
    assert len(report["goals"]) == 6


SHORT = faults.Size(
    hz=10.0, fault_s=1.0, after_s=0.5, heal_s=2.0, faults=["none", "SIGKILL", "garbage answers", "one-way partition"]
)


def test_no_fault_fails_a_call_under_any_policy() -> None:
    report = _run("faults", SHORT)
    rows = {(row["fault"], row["policy"]): row for row in report["rows"]}
    assert list(rows) == [(fault, policy) for fault in SHORT.faults for policy in faults.POLICIES]
    for (fault, _policy), row in rows.items():
        if fault == "one-way partition" and why_not():
            assert row["note"] == f"not run: {why_not()}"
            assert row["requests"] is None
        else:
            assert not row["note"].startswith("not run")
            assert row["requests"] >= 10  # fifteen, where the fault comes to the millisecond
            assert (row["failed"], row["p50_ms"] > 0) == (0, True)
    assert [(goal["name"], goal["met"]) for goal in report["goals"]] == [
        ("calls failed, broadcast", True),
        ("calls failed, hedged", True),
        ("calls failed, slo", True),
        ("calls that one replica ran twice", True),
    ]


def test_calls_survive_the_restart_of_the_zenoh_router() -> None:
    report = _run("faults", faults.Size(hz=10.0, fault_s=3.0, after_s=0.5, heal_s=2.0, faults=["zenoh router restart"]))
    assert [(row["policy"], row["failed"]) for row in report["rows"]] == [(policy, 0) for policy in faults.POLICIES]
    assert all(row["max_ms"] > 900 for row in report["rows"])  # nobody was in reach for a second


def test_tail_lays_policies_and_peers_side_by_side() -> None:
    report = _run("tail", tail.Size(calls=30, hz=5.0, warm=5))
    rows = {row["lane"]: row for row in report["rows"] if "requests" in row}
    assert list(rows) == [*tail.SKYFOG, "grpc_a6", "fogros2_ft", "native", "zenoh", "grpc"]
    assert list(rows) == [row["lane"] for row in report["rows"] if "configuration" in row]
    for lane, row in rows.items():
        if lane == "grpc" and row["note"]:
            continue  # not installed, and could not be
        assert row["requests"] == 30
        assert row["executions_per_request"] > 0
    assert all(rows[lane]["failed"] == rows[lane]["wrong"] == 0 for lane in ("slo", "hedged", "broadcast", "grpc_a6"))
    assert rows["broadcast"]["executions_per_request"] > 1.6  # two or three at any time
    assert len(report["goals"]) == 4


def test_perception_measures_both_sides_stage_by_stage() -> None:
    report = _run("perception", perception.Size(rounds=2, calls=2))
    rows = [row for row in report["rows"] if "service" in row]
    assert [(row["service"], row["side"]) for row in rows] == [
        (service, side) for service in ("detect", "segment") for side in ("bare script", "service callback")
    ]
    assert all(row["calls"] == 4 and row["p50_ms"] > 0 for row in rows)
    stages = [row for row in report["rows"] if "stage" in row]
    assert len(stages) == 2 * (3 + 4)
    assert [goal["goal"] for goal in report["goals"]] == ["<= 1.15"] * 4


@pytest.mark.skipif(find_spec("coal") is None, reason="coal is not installed: ./ws extra planning")
def test_fogros2ft_records_replays_and_looks_at_a_live_fleet(tmp_path: Path) -> None:
    counts = Counts(calls=4, queries=1, runs=4, contended_runs=1)
    size = fogros2ft.Size(counts, requests=12, seeds=1, live_calls=3, warm=2)
    report = _run("fogros2ft", size, tmp_path / "report.json")
    recorded = [row for row in report["rows"] if "recorded" in row]
    assert [row["recorded"] for row in recorded] == ["detection", "segmentation", "planning"]
    assert all(row["alone_p50_ms"] > 1 and row["reply_bytes"] > 100 for row in recorded)
    cells = [row for row in report["rows"] if "limit_p99_ms" in row]
    assert len(cells) == 3 * (1 + 5 * 3 + 2 * 3)
    assert all(row["p99_ms"] >= row["limit_p99_ms"] for row in cells)
    live = [row for row in report["rows"] if "live_check" in row]
    assert [(row["policy"], row["calls"]) for row in live] == [("one replica", 3), ("broadcast", 3), ("slo", 3)]
    assert live[0]["live_p50_ms"] > live[1]["live_p50_ms"]
    assert {path.name for path in tmp_path.iterdir()} == {"report.recorded.json", "report.png"}


def test_a_table_is_cleared_though_a_replica_of_each_service_is_killed_half_way() -> None:
    report = _run("pick_place", pick_place.Size(scenes=1, real_time_factor=2.0))
    (row,) = report["rows"]
    assert (row["objects"], row["in_bin"], row["done"], row["replicas_killed"]) == (5, 5, True, True)
    assert [goal["met"] for goal in report["goals"][:3]] == [True, True, True]


def test_a_process_that_ends_early_is_named_with_the_tail_of_its_log() -> None:
    with Processes(fleet.environment()) as processes:
        made = fleet.Fleet(processes)
        replica = made.replica("echo", "a", added_latency_ms=-1)
        with pytest.raises(BenchError, match=r"replica_echo_a: ended with status 2(.|\n)*added_latency_ms"):
            processes.wait_until(lambda: False, replica.process, "takes no calls", 30.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_benchmark_ends_what_it_started(number: signal.Signals, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "skyfog_bench", "soak", "--quick"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, env={**os.environ}) as bench:
        started = psutil.Process(bench.pid)
        wait_until("a robot, three replicas and a client", lambda: len(started.children()) >= 5, 90.0)
        children = started.children()
        assert len(children) == 5
        bench.send_signal(number)
        assert bench.wait(60) == 130
    wait_until("their end", lambda: not any(is_alive(child.pid) for child in children))


@pytest.mark.skipif(find_spec("mujoco") is None, reason="mujoco is not installed: ./ws extra world")
def test_the_worlds_give_images_and_detection_answers_about_them() -> None:
    report = _run("world", world.Size(seconds=3.0, calls=5))
    watched = {row["topic"]: row for row in report["rows"] if "topic" in row}
    assert len(watched) == 7
    assert all(row["images"] >= 3 and row["hz"] > 0 for row in watched.values())
    calls = report["rows"][-1]
    assert (calls["calls"], calls["failed"]) == (5, 0)
    assert len(report["goals"]) == 5
