"""Tail latency beside peers, live: the same drawn service times for all, while a replica is killed and one frozen.

Every lane calls side by side at one rate. Skyfog's policies, gRPC's hedging rules and FogROS2-FT's broadcast go through
the same driver, transport and replicas, so that only decisions differ; grpcio, plain zenoh and native ROS 2 have
servers of their own beside each replica, which die, come back and freeze with it. A call without a right answer counts
as one that took the whole deadline.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skyfog_bench.draws import ServiceTimes
from skyfog_bench.fleet import START_LIMIT_S, Replica, free_endpoint
from skyfog_bench.measure import quantile
from skyfog_bench.pace import WRONG, Call
from skyfog_bench.processes import Process, Processes
from skyfog_bench.report import Goal, Report
from skyfog_bench.stage import BYTES, Calls, Stage
from skyfog_core.errors import ConfigError
from skyfog_core.extras import need
from skyfog_core.ports import free_tcp_port
from skyfog_core.units import MS

ZONES = "abc"
TIMES = dict.fromkeys(ZONES, ServiceTimes(20.0, slow_share=0.04, slow_ms=300.0))
DEADLINE_MS = 5_000
ANSWER_LIMIT_S = 8.0
SKYFOG: dict[str, dict[str, Any]] = {
    "slo": {"policy": "slo"},
    "hedged": {"policy": "hedged"},
    "k_of_n": {"policy": "k_of_n", "k": 2},
    "single": {"policy": "single"},
    "broadcast": {"policy": "broadcast"},
}
PEER_PROXY = "skyfog_bench.nodes.peer_proxy"
PEER_REPLICA = "skyfog_bench.nodes.peer_replica"
PEER_CLIENT = "skyfog_bench.nodes.peer_client"
GRPC = "skyfog_bench.baselines.grpc_echo"
PROBE_LIMIT_S = 30.0
KILL_AT, BACK_AT, FREEZE_AT = 0.2, 0.4, 0.7  # of the time; two of three replicas are always sound
OVERHEAD_MS = 5.0  # of a call beside its service time, on a quiet machine
TRY_MS = 250  # native ROS 2: above nearly all calls, below the slow ones


@dataclass(frozen=True, slots=True)
class Size:
    """Calls of each lane, how many a second, and how many before them, which are not counted: some policies learn."""

    calls: int
    hz: float
    warm: int


FULL = Size(1_500, 12.0, 120)
QUICK = Size(130, 10.0, 20)


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Start all, call side by side, break, judge."""
    report = Report("tail", seed)
    try:
        need("bench", "grpc")
        probed = processes.start("grpc_probe", GRPC, "probe", domain=0).receive(PROBE_LIMIT_S)
    except ConfigError as error:
        probed = {"version": "", "attempts": 0, "allowed": 0, "why": str(error)}
    stage = Stage(processes, TIMES, seed)
    hedging_delay_ms = _p95(seed) + OVERHEAD_MS
    how = _configurations(hedging_delay_ms, probed)
    say(f"starting {len(how)} lanes, three replicas and the peers' servers beside them …")
    peers = _start(processes, stage, hedging_delay_ms, with_grpc=bool(probed["version"]))
    stage.call(size.warm, size.hz, ANSWER_LIMIT_S)
    first = stage.next_index
    calls = _called(processes, stage, peers, size, say)
    executions = stage.executions(first)
    lanes = stage.lanes | peers.lanes
    report.rows += [_row(lane, calls[lane], executions[number]) for lane, number in lanes.items()]
    if not probed["version"]:
        report.rows.append({**_row("grpc", [], 0), "note": f"not run: {probed['why']}"})
    report.rows += [{"lane": lane, "configuration": text} for lane, text in how.items()]
    report.goals += _goals(report.rows)
    return report


@dataclass(frozen=True, slots=True)
class _Served:
    """Where the peers' servers are found: an endpoint, and a port for each zone (0: no gRPC)."""

    zenoh: str
    grpc: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Peers:
    client: Process
    replicas: dict[str, Process]
    served: _Served
    lanes: dict[str, int]


def _start(processes: Processes, stage: Stage, hedging_delay_ms: float, *, with_grpc: bool) -> _Peers:
    """Every lane; returns when each has been answered."""
    for lane, routing in SKYFOG.items():
        stage.add_lane(lane, {**routing, "deadline_ms": DEADLINE_MS})
    rules = {"hedging_delay_ns": round(hedging_delay_ms * MS), "deadline_ns": DEADLINE_MS * MS}
    stage.add_lane("grpc_a6", {}, (PEER_PROXY, "grpc_a6", json.dumps(rules)))
    stage.add_lane("fogros2_ft", {}, (PEER_PROXY, "fogros2_ft", "{}"))
    stage.start()
    served = _Served(free_endpoint(), {zone: free_tcp_port() if with_grpc else 0 for zone in ZONES})
    config = {
        "deadline_ms": DEADLINE_MS,
        "zenoh": served.zenoh,
        "grpc": list(served.grpc.values()) if with_grpc else [],
        "services": [f"native_{zone}" for zone in ZONES],
        "try_ms": TRY_MS,
    }
    client = processes.start("peer_client", PEER_CLIENT, json.dumps(config), domain=stage.fleet.robot_domain)
    replicas = {zone: _peer_replica(processes, stage, served, zone) for zone in ZONES}
    processes.wait_until(
        lambda: bool(client.ask(START_LIMIT_S, do="ready")["ready"]), client, "finds no servers", START_LIMIT_S
    )
    names = ["native", "zenoh", *(["grpc"] if with_grpc else [])]
    peers = _Peers(client, replicas, served, {name: len(stage.lanes) + i for i, name in enumerate(names)})
    _paced(peers, 3, 10.0, stage.next_index)
    warm = client.receive(START_LIMIT_S)["calls"]
    for name in names:
        if all(call[3] != 0 for call in warm[name]):
            raise client.fault(f"{name}: no call is answered")
    return peers


def _peer_replica(processes: Processes, stage: Stage, served: _Served, zone: str) -> Process:
    """The peers' servers beside a replica; what they run counts in the stage's books."""
    executed = processes.folder / f"peer_{zone}.{len(stage.all_replicas)}.executed"
    echo = {**stage.drawn(zone), "executed": str(executed)}
    config = {"service": f"native_{zone}", "zenoh": served.zenoh, "grpc": served.grpc[zone], "echo": echo}
    started = processes.start(f"peer_{zone}", PEER_REPLICA, json.dumps(config), domain=stage.fleet.robot_domain)
    stage.all_replicas.append(Replica(started, executed))
    return started


def _paced(peers: _Peers, count: int, hz: float, first: int) -> None:
    limit_s = ANSWER_LIMIT_S
    peers.client.send(do="paced", lanes=peers.lanes, size=BYTES, count=count, hz=hz, limit_s=limit_s, first=first)


def _called(processes: Processes, stage: Stage, peers: _Peers, size: Size, say: Callable[[str], None]) -> Calls:
    seconds = size.calls / size.hz

    def during() -> None:
        began = time.monotonic()
        _sleep_until(began + KILL_AT * seconds)
        say("a is killed")
        stage.kill("a")
        processes.kill(peers.replicas["a"])
        _sleep_until(began + BACK_AT * seconds)
        say("a is back")
        stage.start_replica("a")
        peers.replicas["a"] = _peer_replica(processes, stage, peers.served, "a")
        _sleep_until(began + FREEZE_AT * seconds)
        say("b is frozen")
        stage.freeze("b")
        peers.replicas["b"].signal(signal.SIGSTOP)

    _paced(peers, size.calls, size.hz, stage.next_index)
    calls = stage.call(size.calls, size.hz, ANSWER_LIMIT_S, during)
    answer = peers.client.receive(ANSWER_LIMIT_S + 10)["calls"]
    return calls | {lane: [Call(*call) for call in made] for lane, made in answer.items()}


def _sleep_until(when_s: float) -> None:
    time.sleep(max(0.0, when_s - time.monotonic()))


def _p95(seed: int) -> float:
    """The p95 of healthy service times over all replicas: where The Tail at Scale puts a hedge."""
    return quantile([TIMES[zone].ms(seed, zone, -1 - i) for zone in ZONES for i in range(2_000)], 0.95)


def _row(lane: str, calls: Sequence[Call], executions: int) -> dict[str, Any]:
    right = [call for call in calls if call.answered_ns is not None and call.status == 0]
    took_ms = [((call.answered_ns or 0) - call.sent_ns) / MS for call in right]
    took_ms += [float(DEADLINE_MS)] * (len(calls) - len(right))
    wrong = sum(call.status == WRONG for call in calls)
    return {
        "lane": lane,
        "requests": len(calls) or None,
        "failed": len(calls) - len(right) - wrong if calls else None,
        "wrong": wrong if calls else None,
        "p50_ms": quantile(took_ms, 0.5) if calls else None,
        "p99_ms": quantile(took_ms, 0.99) if calls else None,
        "p99.9_ms": quantile(took_ms, 0.999) if calls else None,
        "max_ms": max(took_ms, default=None),
        "executions_per_request": executions / len(calls) if calls else None,
        "note": "",
    }


def _configurations(hedging_delay_ms: float, probed: dict[str, Any]) -> dict[str, str]:
    """The best that each one's documentation recommends."""
    seen = f"grpcio {probed['version']}: {probed['attempts']} of {probed['allowed']} attempts seen under hedgingPolicy"
    return {
        **{lane: f"Skyfog, policy {lane}, defaults otherwise" for lane in SKYFOG},
        "grpc_a6": f"A6 in our driver: 3 attempts, hedgingDelay {hedging_delay_ms:.0f} ms (p95), throttling 10 and 0.1",
        "fogros2_ft": "as published, in our driver: all replicas, one request at a time, after 1 s an empty response",
        "native": f"three ROS 2 services, {TRY_MS} ms a try, then the next one; the last that answered goes first",
        "zenoh": "a get with BEST_MATCHING on three complete queryables, its time-out the deadline",
        "grpc": f"round_robin, retryPolicy of 3 attempts, keep-alive, wait_for_ready ({seen})",
    }


def _goals(rows: Sequence[Any]) -> list[Goal]:
    found = {row["lane"]: row for row in rows if "requests" in row}
    slo, broadcast, a6 = found["slo"], found["broadcast"], found["grpc_a6"]
    extra = (slo["executions_per_request"] - 1) / max(1e-9, broadcast["executions_per_request"] - 1)
    return [
        Goal("calls without a right answer, slo", 0, slo["failed"] + slo["wrong"]),
        Goal("P99 of slo / broadcast", 1.1, slo["p99_ms"] / broadcast["p99_ms"]),
        Goal("extra work of slo / broadcast", 0.4, extra),
        Goal("P99 of slo / gRPC's hedging rules", 1.0, slo["p99_ms"] / a6["p99_ms"]),
    ]
