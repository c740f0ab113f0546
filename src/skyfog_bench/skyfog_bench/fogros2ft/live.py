"""Detection through the whole of Skyfog, on two replicas of which one answers late, beside the replay of the same.

One robot proxy a policy, all in front of the same two replicas. At first only the late one is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from skyfog_bench.fleet import Fleet
from skyfog_bench.fogros2ft.conditions import BOTH, PathState, Weather
from skyfog_bench.fogros2ft.draws import MOST_REPLICAS, Recording, draw_world
from skyfog_bench.fogros2ft.record import on_core
from skyfog_bench.fogros2ft.replay import play, routing
from skyfog_bench.fogros2ft.table import ONE
from skyfog_bench.measure import quantile
from skyfog_bench.perception import write_photograph
from skyfog_bench.processes import Process, Processes
from skyfog_bench.report import Goal
from skyfog_core.config.router import PolicyName
from skyfog_core.units import MS

ASKER = "skyfog_bench.nodes.asker"
SERVICE = "detect"
DETECT = "skyfog_interfaces/srv/Detect"
EMBEDDED = "skyfog_perception.nodes.detect:DetectService"
POLICIES: tuple[PolicyName, ...] = ("broadcast", "slo")
LATE_MS = 150
PACE_S = 0.3
WARM = 5
START_LIMIT_S = 60.0
TRIES = 10
DEADLINE_MS = 5_000
HERE = PathState(10e9, 3 * MS)  # what Skyfog and ROS add on one machine, as `overhead` measures it for 100 KB
LIKE = 1.5  # live / replayed, either way


@dataclass(frozen=True, slots=True)
class Pair:
    """Latencies of one policy, in ms."""

    policy: str
    replicas: int
    live: list[float]
    replayed: list[float]


def check(
    processes: Processes, recording: Recording, calls: int, seed: int, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[Goal]]:
    """Rows and goals. Raises BenchError where a process does not do its part."""
    live = _live(processes, calls, say)
    pairs = [Pair(title, n, live[title], replayed(recording, title, n, seed)) for title, n in _titles().items()]
    return [_row(pair) for pair in pairs], [goal(pairs)]


def replayed(recording: Recording, title: str, replicas: int, seed: int, requests: int = 1_000) -> list[float]:
    """The same in the replay: the late replica is the first, so that it is the one that is alone."""
    late = Weather(later_ns=LATE_MS * MS, good=HERE)
    weather = [late, *[Weather(good=HERE)] * (MOST_REPLICAS - 1)]
    world = draw_world(recording, BOTH, requests, PACE_S, seed, weather)
    policy: PolicyName = "broadcast" if title == "broadcast" else "slo"
    return list(play(world, routing(policy, replicas, DEADLINE_MS), replicas, seed).latencies_ms)


def goal(pairs: list[Pair]) -> Goal:
    """How far the medians are apart, at worst."""
    ratios = [quantile(pair.live, 0.5) / quantile(pair.replayed, 0.5) for pair in pairs]
    return Goal("live detection: median beside the replay's, either way", LIKE, max(max(r, 1 / r) for r in ratios))


def _titles() -> Mapping[str, int]:
    return {ONE: 1, **dict.fromkeys(POLICIES, 2)}


def _row(pair: Pair) -> dict[str, Any]:
    return {
        "live_check": f"detection, one replica {LATE_MS} ms late",
        "policy": pair.policy,
        "replicas": pair.replicas,
        "calls": len(pair.live),
        "live_p50_ms": quantile(pair.live, 0.5),
        "replay_p50_ms": quantile(pair.replayed, 0.5),
        "live_p99_ms": quantile(pair.live, 0.99),
        "replay_p99_ms": quantile(pair.replayed, 0.99),
    }


def _live(processes: Processes, calls: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Latencies by policy."""
    image = processes.folder / "asked.jpg"
    write_photograph(image)
    fleet = Fleet(processes, "live")
    for policy in POLICIES:
        own = routing(policy, 2, DEADLINE_MS).model_dump(include={"policy", "extra_load", "deadline_ms"})
        fleet.lane(policy, SERVICE, {"type": DETECT, **own})
    asker = processes.start("asker", ASKER, str(image), domain=fleet.robot_domain)
    cores = sorted(os.sched_getaffinity(0))
    say("live: detection on the late replica alone …")
    with on_core(cores[0]):  # as it was recorded
        fleet.host(SERVICE, "late", DETECT, EMBEDDED, {}, added_latency_ms=LATE_MS)
    found = {ONE: _calls(asker, "slo", calls)}
    with on_core(cores[-1]):
        fleet.host(SERVICE, "quick", DETECT, EMBEDDED, {})
    for policy in POLICIES:
        _until_quick(asker, policy)
        say(f"live: detection, {policy} …")
        found[policy] = _calls(asker, policy, calls)
    asker.release()  # it serves until its input ends
    return found


def _ask(asker: Process, policy: PolicyName, count: int) -> list[list[float]]:
    limit_s = START_LIMIT_S + count * (PACE_S + DEADLINE_MS / 1e3)
    words = {"do": "ask", "service": policy, "count": count, "pace_s": PACE_S, "limit_s": START_LIMIT_S}
    return list(asker.ask(limit_s, **words)["calls"])


def _calls(asker: Process, policy: PolicyName, count: int) -> list[float]:
    """Milliseconds of each, after some that are not counted. Raises BenchError where a counted one fails."""
    for _ in range(TRIES):  # the first may say that nobody is there yet
        if _ask(asker, policy, WARM)[-1][1] == 0:
            break
    calls = _ask(asker, policy, count)
    failed = sum(1 for _, status in calls if status != 0)
    if failed:
        raise asker.fault(f"{policy}: {failed} of {count} calls failed")
    return [ms for ms, _ in calls]


def _until_quick(asker: Process, policy: PolicyName) -> None:
    """Until the robot knows the second replica: its answers are sooner. Raises BenchError."""
    for _ in range(TRIES):
        if min((ms for ms, status in _ask(asker, policy, WARM) if status == 0), default=LATE_MS) < LATE_MS:
            return
    raise asker.fault(f"{policy}: no answer sooner than the late replica's")
