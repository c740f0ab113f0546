"""What a call through Skyfog costs beside a native ROS 2 call and a bare zenoh get.

All processes are up for the whole run. In each round every case is measured once at each size, in an order drawn from
the seed, one call at a time, so that whatever else the machine does falls on all cases alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from skyfog_bench.fleet import START_LIMIT_S, Fleet, Replica, free_endpoint, read_trace
from skyfog_bench.measure import figure, quantile, ratio
from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_bench.report import Goal, Report, at_most
from skyfog_core.rng import stream
from skyfog_core.units import MS

ZENOH = "skyfog_bench.baselines.zenoh_echo"
KB, MB = 1_024, 1 << 20
ROUND_LIMIT_S = 60.0
WARM = 3

NATIVE, BARE, BOTH_ROS, EMBEDDED, TRACED = "native", "bare_zenoh", "ros_both_ends", "embedded", "traced"
TITLES = {
    NATIVE: "native ROS 2 service",
    BARE: "bare zenoh get",
    BOTH_ROS: "Skyfog, ROS on both ends",
    EMBEDDED: "Skyfog, embedded replica",
}
LIMITS = {(BOTH_ROS, KB): 3.0, (EMBEDDED, KB): 2.0, (BOTH_ROS, MB): 2.5, (EMBEDDED, MB): 1.7}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a call carries: `size` bytes there and, where `echo`, the same back."""

    size: int
    echo: bool

    @property
    def reply_size(self) -> int:
        return self.size if self.echo else 0


SHAPES = (Shape(KB, True), Shape(MB, True), Shape(MB, False))


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int
    calls: Mapping[int, int]  # in each round, by bytes
    traced_calls: int


FULL = Size(rounds=20, calls={KB: 100, MB: 30}, traced_calls=200)
QUICK = Size(rounds=7, calls={KB: 60, MB: 15}, traced_calls=60)

# One row for each case and shape: latencies in ms of each round.
Rounds = dict[tuple[str, Shape], list[list[float]]]


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Measure and judge."""
    say("starting a client, two services, two replicas, a robot proxy and a zenoh peer …")
    clients, traced = _start(processes)
    rounds = _measure(clients, size, seed, say)
    say("where the time goes …")
    spans = {shape: _traced_calls(clients[TRACED], shape, size) for shape in SHAPES}
    processes.end([traced.robot, traced.replica.process])  # they write their traces out when they end
    report = Report("overhead", seed)
    report.rows += [_row(case, shape, rounds) for shape in SHAPES for case in TITLES]
    for shape, calls in spans.items():
        report.rows += _breakdown(calls, shape, read_trace(traced.robot_trace), read_trace(traced.replica_trace))
    report.goals += _goals(rounds)
    return report


@dataclass(frozen=True, slots=True)
class _Traced:
    """A second robot proxy and embedded replica: traces cost time that the measured ones must not pay."""

    robot: Process
    replica: Replica
    robot_trace: Path
    replica_trace: Path


def _start(processes: Processes) -> tuple[dict[str, Process], _Traced]:
    """Everything, and the client process for each case. Returns when each case has answered."""
    fleet = Fleet(processes)
    peer = free_endpoint()
    folder = processes.folder
    processes.start("zenoh_server", ZENOH, "server", peer, domain=fleet.robot_domain)
    fleet.robot_proxy(BOTH_ROS, EMBEDDED)
    fleet.server("native_server", NATIVE, robot_side=True)
    fleet.server("replica_server", BOTH_ROS, robot_side=False)
    fleet.replica(BOTH_ROS, "a", embedded=False)
    fleet.replica(EMBEDDED, "b")
    client = fleet.client()
    zenoh_client = processes.start("zenoh_client", ZENOH, "client", peer, domain=fleet.robot_domain)
    robot_trace, replica_trace = folder / "robot.jsonl", folder / "replica.jsonl"
    second = Fleet(processes, "traced", beside=fleet)
    traced = _Traced(
        second.robot_proxy(TRACED, trace=str(robot_trace)),
        second.replica(TRACED, "c", trace=str(replica_trace)),
        robot_trace,
        replica_trace,
    )
    clients = {NATIVE: client, BARE: zenoh_client, BOTH_ROS: client, EMBEDDED: client, TRACED: client}
    for case, process in clients.items():
        process.ask(START_LIMIT_S + 5, do="wait", service=case, limit_s=START_LIMIT_S)
    return clients, traced


def _calls(client: Process, case: str, shape: Shape, count: int) -> list[list[int]]:
    """[sent_ns, answered_ns, status] of each call. Raises BenchError for any that was not answered rightly."""
    asked = {"do": "round", "service": case, "size": shape.size, "echo": shape.echo, "count": count, "warm": WARM}
    calls: list[list[int]] = client.ask(ROUND_LIMIT_S, **asked)["calls"]
    failed = [status for *_, status in calls if status != 0]
    if failed:
        raise BenchError(f"{case}: {len(failed)} of {len(calls)} calls failed, the first with status {failed[0]}")
    return calls


def _measure(clients: Mapping[str, Process], size: Size, seed: int, say: Callable[[str], None]) -> Rounds:
    rounds: Rounds = {(case, shape): [] for case in TITLES for shape in SHAPES}
    for i in range(size.rounds):
        say(f"round {i + 1} of {size.rounds}")
        for shape in SHAPES:
            order = list(TITLES)
            stream(seed, "order", str(i), str(shape)).shuffle(order)
            for case in order:
                calls = _calls(clients[case], case, shape, size.calls[shape.size])
                rounds[case, shape].append([(ended - began) / MS for began, ended, _ in calls])
    return rounds


def _row(case: str, shape: Shape, rounds: Rounds) -> dict[str, Any]:
    mine = rounds[case, shape]
    every = [ms for one in mine for ms in one]
    spread, beside = figure([median(one) for one in mine]), ratio(mine, rounds[NATIVE, shape])
    return {
        "case": TITLES[case],
        "request_bytes": shape.size,
        "reply_bytes": shape.reply_size,
        "calls": len(every),
        "p50_ms": median(every),
        "low_ms": spread.low,
        "high_ms": spread.high,
        "p99_ms": quantile(every, 0.99),
        "times_native": beside.value,
    }


def _goals(rounds: Rounds) -> list[Goal]:
    goals = []
    for (case, size), limit in LIMITS.items():
        shape = Shape(size, True)
        name = f"{'1 KB' if size == KB else '1 MB'}: {TITLES[case]} / native"
        goals.append(at_most(name, limit, ratio(rounds[case, shape], rounds[NATIVE, shape])))
    return goals


def _traced_calls(client: Process, shape: Shape, size: Size) -> list[list[int]]:
    return _calls(client, TRACED, shape, size.traced_calls if shape.size == KB else size.traced_calls // 3)


def _breakdown(
    calls: list[list[int]], shape: Shape, robot: list[dict[str, Any]], replica: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Where the time of an embedded call goes, as medians, from traces on the same steady clock."""
    queried = {event["id"]: event["t_ns"] for event in replica if event["event"] == "query"}
    service_us = {event["id"]: event["us"] for event in replica if event["event"] == "done"}
    sent = {event["id"]: event["t_ns"] for event in robot if event["event"] == "sent"}
    got = sorted((event["t_ns"], event["id"]) for event in robot if event["event"] == "delivered")
    parts: dict[str, list[float]] = {}
    for began, ended, _ in calls:
        inside = [(t_ns, i) for t_ns, i in got if began <= sent[i] and t_ns <= ended and i in service_us]
        if len(inside) != 1:
            continue
        delivered, i = inside[0]
        waited = delivered - queried[i] - service_us[i] * 1_000
        for name, ns in (
            ("client -> robot (ROS)", sent[i] - began),
            ("robot -> replica (zenoh)", queried[i] - sent[i]),
            ("decode, service, encode", service_us[i] * 1_000),
            ("replica -> robot (threads, zenoh)", waited),
            ("decode, encode, robot -> client (ROS)", ended - delivered),
        ):
            parts.setdefault(name, []).append(ns / MS)
    return [
        {
            "embedded_call_spends_in": name,
            "request_bytes": shape.size,
            "reply_bytes": shape.reply_size,
            "p50_ms": median(values),
            "low_ms": quantile(values, 0.25),
            "high_ms": quantile(values, 0.75),
        }
        for name, values in parts.items()
    ]
