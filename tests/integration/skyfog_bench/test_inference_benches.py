"""The benchmarks of the inference node from end to end on tiny random models: forms and counts, never times.

The processes are the real ones. Peers with an environment of their own are not installed here: their rows say so.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from skyfog_bench.cgroup import MemoryCap
from skyfog_bench.cli import app
from skyfog_bench.inference import attention, markdown, memory, neo, offload
from skyfog_bench.inference.models import Shape
from skyfog_bench.inference.peers import PEERS
from skyfog_bench.processes import BenchError
from skyfog_bench.report import write
from skyfog_bench.run import run
from skyfog_inference.attention import build
from skyfog_pool.children import import_path

torch = pytest.importorskip("torch", reason="torch is not installed: ./ws extra inference")

pytestmark = pytest.mark.timeout(300)

LIMIT_S = 60.0
LLAMA = Shape("tiny-llama", layers=2, hidden=64, intermediate=96, heads=4, kv_heads=2, vocab=64)
# A hundred megabytes of experts: less could not be told from what libraries take, and all would fit any cap.
MIXTRAL = Shape("tiny-mixtral", layers=8, hidden=256, intermediate=2048, heads=4, kv_heads=2, experts=8, vocab=64)
BYTES_BEFORE_THE_MODEL = """
from skyfog_inference import engine
from skyfog_inference.offload import own_bytes
print(own_bytes())
"""

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _workspace_without_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFOG_WS", str(tmp_path))
    monkeypatch.setenv("SKYFOG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PYTHONPATH", import_path())


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class NoCap:
    """Where this machine permits no memory limit."""

    def __init__(self, pid: int, limit_bytes: int) -> None:
        assert psutil.pid_exists(pid)

    def peak_bytes(self) -> int:
        return 0

    def remove(self) -> None:
        """There is nothing."""


@pytest.fixture
def capped(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether workers are held to their cap; where they cannot be, the rest of the benchmark runs all the same."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        try:
            cap = MemoryCap(waiting.pid, 1 << 30)
        except BenchError:
            monkeypatch.setattr(offload, "MemoryCap", NoCap)
            return False
        finally:
            waiting.communicate(b"\n", timeout=LIMIT_S)
        cap.remove()
    return True


def _report(name: str, size: Any, folder: Path) -> dict[str, Any]:
    """Of a run whose processes have all ended, with what is written of it."""
    path, before = folder / f"{name}.json", psutil.Process().children(recursive=True)
    report = run(name, size, 1, lambda _text: None, path)
    assert (report["name"], report["seed"]) == (name, 1)
    assert all(child in before for child in psutil.Process().children(recursive=True))
    write(report, path)
    said = CliRunner().invoke(app, ["inference", str(folder), "--report-only"])
    assert said.exit_code == 0, said.output
    text = (folder / "inference.md").read_text()
    assert f"## {markdown.PARTS[name]}\n" in text
    assert all(f"| {goal['name']} | {goal['goal']} |" in text for goal in report["goals"])
    assert sum(line.startswith("![") for line in text.splitlines()) == len(list(folder.glob("*.png")))
    return report


def _measured(goals: Rows) -> None:
    """Each has a value, whatever it is, within the spread of its rounds."""
    for goal in goals:
        assert goal["value"] > 0, goal
        assert goal["met"] in {True, False}
        assert len(goal["spread"]) == 2


def _in_order(row: dict[str, Any], low: str, value: str, high: str) -> None:
    assert 0 < row[low] <= row[value] <= row[high], row


def test_memory_runs_ours_beside_transformers_and_says_who_is_missing(tmp_path: Path) -> None:
    size = memory.Size((LLAMA,), (1, 8), prompt=20, steps=3, rounds=2)
    report = _report("inference_memory", size, tmp_path)
    ran = [row for row in report["rows"] if "batch" in row]
    assert {(row["engine"], row["batch"]) for row in ran} == {
        (engine, batch) for engine in (memory.OURS, memory.PEER) for batch in size.batches
    }
    assert len(ran) == 4
    for row in ran:
        assert row["model"] == LLAMA.name
        _in_order(row, "decode_low", "decode_tok_s", "decode_high")
        _in_order(row, "prefill_low", "prefill_tok_s", "prefill_high")
        assert row["same_tokens_fp32"] is (True if row["engine"] == memory.OURS else None)
    missing = report["rows"][len(ran) :]
    assert [row["engine"] for row in missing] == [peer.name for peer in PEERS]
    assert all(f"peers install {peer.environment}" in row["why_not"] for peer, row in zip(PEERS, missing, strict=True))
    at_8, at_32 = report["goals"]
    _measured([at_8])
    assert (at_8["name"], at_8["goal"]) == (f"{LLAMA.name}: decode over transformers at batch 8", ">= 1.5")
    assert (at_32["value"], at_32["met"], at_32["why"]) == (None, None, "not run in this size")


def _room_for_half_of_the_experts(size: offload.Size) -> int:
    """The cap with which ours keeps some experts and streams others, whatever libraries take on this machine."""
    python = subprocess.run(
        [sys.executable, "-c", BYTES_BEFORE_THE_MODEL], capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    plan = 130_000_000  # what the plan sets aside for libraries, prompts, keys and values
    return round((int(python.stdout) + plan + 0.7 * size.shape.bytes) / 0.94)


def test_offload_runs_under_the_cap_and_draws_the_same_with_and_without_overlap(tmp_path: Path, capped: bool) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed: ./ws extra inference")
    size = offload.Size(MIXTRAL, 0, (1, 8), at=8, steps=2, again=0, orders=("S2",), sample=8 << 20)
    size = replace(size, cap=_room_for_half_of_the_experts(size))
    report = _report("inference_offload", size, tmp_path)
    machine, *rows = report["rows"]
    assert list(machine) == ["disk_gb_s", "ram_gb_s", "bf16_gflop_s"]
    assert all(rate > 0 for rate in machine.values())
    sync, routed, order = "ours, no overlap", "ours, chosen experts only", "ours, S2"
    both = [(name, batch) for name in (offload.OURS, sync) for batch in size.batches]
    others = [(name, batch) for name in (routed, offload.ACCELERATE) for batch in size.batches]
    assert [(row["engine"], row["batch"]) for row in rows] == [*both, (order, 8), *others]
    for row in rows:
        _in_order(row, "low", "tok_s", "high")
        assert row["prefill_s"] >= 0
        assert row["peak_of_cap_percent"] <= 100
        assert (row["peak_of_cap_percent"] > 0) is capped
        if row["engine"] == offload.ACCELERATE:
            assert (row["steps"], row["bound_tok_s"], row["r_w"]) == (3, None, None)
            continue
        assert row["steps"] == size.steps
        assert row["bound_tok_s"] > 0
        assert row["disk_gb_s"] > 0
        assert 0 < row["r_w"] < 1, "some experts stay, and some are streamed"
        assert (row["at_once"], row["micro_batch"]) == (row["batch"], row["batch"])
    drawn = {(row["engine"], row["batch"]): row["tokens"] for row in rows}
    assert drawn[offload.OURS, 8] == drawn[sync, 8] == drawn[routed, 8] == drawn[order, 8]
    over_accelerate, over_llama, of_bound, over_sync, same, orders, peak = report["goals"]
    _measured([over_accelerate, of_bound, over_sync])
    assert all(goal["name"].endswith("at batch 8") for goal in (over_accelerate, over_llama, of_bound, over_sync))
    assert (over_llama["value"], "peers install llamacpp" in over_llama["why"]) == (None, True)
    assert (same["value"], same["met"], orders["value"], orders["met"]) == (2, True, 1, True)
    assert (peak["value"] > 0, peak["met"]) == (capped, True)
    assert (tmp_path / "inference_offload.png").stat().st_size > 0


@pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")
def test_attention_reads_every_case_in_every_way(tmp_path: Path) -> None:
    report = _report("inference_attention", attention.Size(sequences=2, context=64, rounds=3), tmp_path)
    isas = build.usable_isas()
    ours = [f"{isa}, {order}" for isa in isas for order in (attention.IN_ORDER, "blocks shuffled")]
    expected = []
    for case in attention.CASES:
        grouped = ["torch SDPA, group as queries"] if case.group > 1 else []
        ways = [*ours, "torch SDPA", "torch matmul", *grouped, attention.READ]
        expected += [(case.name, case.head_dim, case.dtype, way) for way in ways]
    assert [(row["heads"], row["head_dim"], row["type"], row["way"]) for row in report["rows"]] == expected
    for row in report["rows"]:
        _in_order(row, "low", "gb_s", "high")
        checked = row["way"] in ours and row["way"].endswith(attention.IN_ORDER)
        assert (row["error"] is not None) is checked
        assert not checked or 0 < float(row["error"]) < (1e-5 if row["type"] == "float32" else 1e-2)
    _measured(report["goals"])
    assert len(report["goals"]) == sum(case.goal for case in attention.CASES)


def test_neo_answers_every_request_whole_on_one_worker_and_on_two(tmp_path: Path) -> None:
    size = neo.Size(LLAMA, 1, (6, 12), 10, 1, (4, 10), (1.0, 2.0), 5, quick_table=True)
    report = _report("inference_neo", size, tmp_path)
    names = list(neo.CORES)
    saturated = {(row["saturated"], row["output"]): row for row in report["rows"] if "saturated" in row}
    assert list(saturated) == [(name, output) for output in size.outputs for name in names]
    for row in saturated.values():
        _in_order(row, "low", "tokens_per_s", "high")
        assert row["mean_ms_per_token"] > 0
    (overlap,) = [row for row in report["rows"] if "overlap" in row]
    assert 0 <= overlap["worked_over_took"] <= 2, "two workers in the time of a step"
    assert (overlap["steps"] > 0) == (overlap["took_s"] > 0) == (overlap["worked_over_took"] > 0)
    rated = [row for row in report["rows"] if "open" in row]
    assert [row["open"] for row in rated] == [name for name in names for _rate in size.rates]
    alone = [saturated[neo.ALONE, output]["tokens_per_s"] for output in size.outputs]
    base = sum(alone) / len(alone) / (sum(size.open_outputs) / 2)
    for row, share in zip(rated, size.rates * len(names), strict=True):
        assert row["requests_per_s"] == pytest.approx(share * base, rel=1e-3)
        assert row["tokens_per_s"] > 0
        assert 0 < row["mean_ms_per_token"] <= row["p99_ms_per_token"]
    equal = {row["equal_latency"]: row for row in report["rows"] if "equal_latency" in row}
    assert list(equal) == [neo.NEO, neo.BOTH_CORES]
    for row in equal.values():
        _in_order(row, "low", "rate_over_device_alone", "high")
    _measured(report["goals"])
    values = [goal["value"] for goal in report["goals"]]
    ratios = [
        saturated[neo.NEO, output]["tokens_per_s"] / saturated[neo.ALONE, output]["tokens_per_s"]
        for output in size.outputs
    ]
    assert values == pytest.approx([equal[neo.NEO]["rate_over_device_alone"], *ratios], abs=2e-3)
    assert (tmp_path / "inference_neo.png").stat().st_size > 0
