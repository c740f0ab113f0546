"""A steady load for a minute: nothing is lost, and no process grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from skyfog_bench.fleet import Fleet, until_all_run
from skyfog_bench.measure import growth, quantile
from skyfog_bench.processes import Process, Processes
from skyfog_bench.report import Goal, Report
from skyfog_core.units import MS

SERVICE = "echo"
BYTES = 1_024
ANSWER_LIMIT_S = 15.0  # beyond the proxy's deadline of 10 s
SAMPLE_S = 1.0
GROWTH_MB = 5.0
STEP_S = 5


@dataclass(frozen=True, slots=True)
class Size:
    """How much load, and for how long."""

    hz: float
    seconds: float


FULL = Size(200.0, 60.0)
QUICK = Size(200.0, 15.0)


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Load, watch, judge."""
    say("starting a client, a robot proxy and three embedded replicas …")
    fleet = Fleet(processes)
    robot = fleet.robot_proxy(SERVICE)
    replicas = [fleet.replica(SERVICE, zone, counted=True) for zone in "abc"]
    client = fleet.client()
    until_all_run(processes, client, SERVICE, replicas)
    watched = {"robot_proxy": robot} | {f"replica {zone}": r.process for zone, r in zip("abc", replicas, strict=True)}
    count = round(size.hz * size.seconds)
    client.send(do="paced", lanes={SERVICE: 0}, size=BYTES, count=count, hz=size.hz, limit_s=ANSWER_LIMIT_S)
    memory, cpu = _watch({**watched, "client": client}, size.seconds, say)
    calls = client.receive(size.seconds + ANSWER_LIMIT_S + 10)["calls"][SERVICE]
    report = Report("soak", seed)
    report.rows.append(load_row(calls, size.hz, size.seconds))
    for name in memory:
        row = {"what": name, "rss_mb": memory[name][-1], "rss_growth_mb": growth(memory[name]), "cpu_cores": cpu[name]}
        report.rows.append(row)
    lost, failed = report.rows[0]["lost"], report.rows[0]["failed"]
    report.goals += [Goal("requests lost", 0, lost), Goal("requests failed", 0, failed)]
    report.goals += [
        Goal(f"{name}: growth over the second half", GROWTH_MB, growth(memory[name]), "MB") for name in watched
    ]
    return report


def load_row(calls: list[list[Any]], hz: float, seconds: float) -> dict[str, Any]:
    """What became of paced calls, each as the fields of pace.Call."""
    answered = [call for call in calls if call[2] is not None]
    took_ms = [(call[2] - call[1]) / MS for call in answered]
    late_ms = [(call[1] - call[0]) / MS for call in calls]
    return {
        "what": f"{hz:g} requests/s of {BYTES} bytes for {seconds:g} s",
        "sent": len(calls),
        "answered": len(answered),
        "lost": len(calls) - len(answered),
        "failed": sum(1 for call in answered if call[3] != 0),
        "p50_ms": quantile(took_ms, 0.5) if took_ms else None,
        "p99_ms": quantile(took_ms, 0.99) if took_ms else None,
        "max_ms": max(took_ms, default=None),
        "sent_late_p99_ms": quantile(late_ms, 0.99),
    }


def _watch(
    processes: dict[str, Process], seconds: float, say: Callable[[str], None]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Resident memory in MB, a sample each SAMPLE_S; and CPU time used, in cores. Raises BenchError if one ends."""
    handles = {name: psutil.Process(process.pid) for name, process in processes.items()}
    memory: dict[str, list[float]] = {name: [] for name in processes}
    used_at_start = {name: _cpu_s(handle) for name, handle in handles.items()}
    began = time.monotonic()
    samples = max(2, round(seconds / SAMPLE_S))
    for i in range(1, samples + 1):
        time.sleep(max(0.0, began + i * seconds / samples - time.monotonic()))
        for name, process in processes.items():
            process.must_live()
            memory[name].append(handles[name].memory_info().rss / 1e6)
        if i % STEP_S == 0:
            say(f"{i * seconds / samples:.0f} of {seconds:.0f} s")
    took = time.monotonic() - began
    return memory, {name: (_cpu_s(handle) - used_at_start[name]) / took for name, handle in handles.items()}


def _cpu_s(handle: psutil.Process) -> float:
    times = handle.cpu_times()
    return float(times.user + times.system)
