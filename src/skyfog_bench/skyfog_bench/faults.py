"""Calls while one of three replicas is killed and one is frozen: the robot does not notice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skyfog_bench.fleet import Fleet, Replica, until_all_run
from skyfog_bench.measure import quantile
from skyfog_bench.processes import Process, Processes
from skyfog_bench.report import Goal, Report
from skyfog_core.rng import stream
from skyfog_core.units import MS

SERVICE = "echo"
BYTES = 1_024
SERVICE_MS = {"a": 20, "b": 40, "c": 60}  # emulated; a is killed, b is frozen, c stays healthy
CONCURRENCY = 32  # a replica is never the bottleneck
ALLOWED_MS = 50.0
ANSWER_LIMIT_S = 15.0  # beyond the proxy's deadline of 10 s
WAKE_S = 2.0  # for what a frozen replica finds in its queue when it goes on


@dataclass(frozen=True, slots=True)
class Size:
    """How many calls, and how fast."""

    calls: int
    hz: float


FULL = Size(1_000, 20.0)
QUICK = Size(400, 20.0)


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Call at a pace, kill after about a third, freeze after about two thirds, judge."""
    say("starting a client, a robot proxy and three replicas …")
    fleet = Fleet(processes)
    fleet.robot_proxy(SERVICE)
    replicas = {
        zone: fleet.replica(SERVICE, zone, counted=True, concurrency=CONCURRENCY, added_latency_ms=ms)
        for zone, ms in SERVICE_MS.items()
    }
    client = fleet.client()
    until_all_run(processes, client, SERVICE, list(replicas.values()))
    seconds = size.calls / size.hz
    client.send(do="paced", service=SERVICE, size=BYTES, count=size.calls, hz=size.hz, limit_s=ANSWER_LIMIT_S)
    killed_ns, frozen_ns = _break(processes, replicas, seconds, seed, say)
    calls = client.receive(seconds + ANSWER_LIMIT_S + 10)["calls"]
    processes.end([client])
    replicas["b"].process.signal(signal.SIGCONT)  # what it does now counts too
    time.sleep(WAKE_S)
    report = Report("faults", seed)
    phases = [("all healthy", 0, killed_ns), ("a killed", killed_ns, frozen_ns), ("b frozen too", frozen_ns, None)]
    report.rows += [_phase(name, since, until, calls) for name, since, until in phases]
    numbers = {call[4] for call in calls}
    twice = 0
    for zone, replica in replicas.items():
        ran = {number: times for number, times in replica.executions().items() if number in numbers}
        again = sum(1 for times in ran.values() if times > 1)
        twice += again
        row = {"what": f"replica {zone}", "emulated_ms": SERVICE_MS[zone], "executed": sum(ran.values())}
        report.rows.append({**row, "executed_twice": again})
    report.goals += _goals(calls, twice)
    return report


def _break(
    processes: Processes, replicas: dict[str, Replica], seconds: float, seed: int, say: Callable[[str], None]
) -> tuple[int, int]:
    """Kill a, then freeze b; returns when, on the steady clock. The times are drawn from the seed."""
    draw = stream(seed, "faults")
    began = time.monotonic()
    kill_s, freeze_s = (seconds * (part + draw.uniform(-0.05, 0.05)) for part in (1 / 3, 2 / 3))
    _sleep_until(began + kill_s, replicas["a"].process)
    killed_ns = time.monotonic_ns()
    processes.kill(replicas["a"].process)
    say(f"{kill_s:.1f} s: replica a killed")
    _sleep_until(began + freeze_s, replicas["b"].process)
    frozen_ns = time.monotonic_ns()
    replicas["b"].process.signal(signal.SIGSTOP)
    say(f"{freeze_s:.1f} s: replica b frozen")
    return killed_ns, frozen_ns


def _sleep_until(when_s: float, process: Process) -> None:
    time.sleep(max(0.0, when_s - time.monotonic()))
    process.must_live()


def _phase(name: str, since_ns: int, until_ns: int | None, calls: list[list[Any]]) -> dict[str, Any]:
    """Of the calls sent in one phase: how many, how many failed, and how long they took."""
    mine = [call for call in calls if call[1] >= since_ns and (until_ns is None or call[1] < until_ns)]
    took_ms = [(call[2] - call[1]) / MS for call in mine if call[2] is not None]
    return {
        "what": name,
        "sent": len(mine),
        "failed": failures(mine),
        "p50_ms": quantile(took_ms, 0.5) if took_ms else None,
        "p99_ms": quantile(took_ms, 0.99) if took_ms else None,
        "max_ms": max(took_ms, default=None),
    }


def failures(calls: list[list[Any]]) -> int:
    """Calls without an answer, or with one that is not OK."""
    return sum(1 for call in calls if call[2] is None or call[3] != 0)


def _goals(calls: list[list[Any]], twice: int) -> list[Goal]:
    slowest_ms = max(((call[2] - call[1]) / MS for call in calls if call[2] is not None), default=None)
    allowed_ms = max(SERVICE_MS.values()) + ALLOWED_MS
    why = "" if slowest_ms is not None else "no call was answered"
    return [
        Goal("calls failed", 0, failures(calls)),
        Goal("executed twice on one replica", 0, twice),
        Goal("slowest call, against the slowest replica's time + 50 ms", allowed_ms, slowest_ms, "ms", why=why),
    ]
