"""The live fault matrix: every fault under every policy, on real processes, side by side.

One robot each with `broadcast`, `hedged` and `slo` call the same three replicas at the same rate; the fault hits the
replica that answers fastest, or its link, and after each the fleet is healed. Robot and replicas live in network
namespaces of their own where the machine permits it; where it does not, the faults of links are not run.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from skyfog_bench.draws import ServiceTimes
from skyfog_bench.fleet import free_endpoint
from skyfog_bench.measure import quantile
from skyfog_bench.pace import Call
from skyfog_bench.processes import BenchError, Processes
from skyfog_bench.report import Goal, Report
from skyfog_bench.stage import Calls, Stage
from skyfog_core.units import MS
from skyfog_pool.provider.netem.network import CUT, Impairment, Network, NetworkError, why_not

ZONES = "abc"
POLICIES = ("broadcast", "hedged", "slo")
TIMES = {
    "a": ServiceTimes(10.0, slow_share=0.02, slow_ms=200.0),  # a is hit: each policy that chooses prefers it
    "b": ServiceTimes(15.0, slow_share=0.02, slow_ms=200.0),
    "c": ServiceTimes(20.0, slow_share=0.02, slow_ms=200.0),
}
DEADLINE_MS = 5_000
ANSWER_LIMIT_S = 13.0  # beyond each deadline
LEAD_S = 1.0  # of calls before a fault, which are not counted
FREEZE_S = 5.0
DOWN_S = 1.0  # of the zenoh router
BURNERS = 8
LEAK_MB, ROOM_MB = 4.0, 150.0
ROUTED_DEADLINE_MS = 10_000  # longer than it takes all to find a router that has come back
ZENOH_ROUTER = "skyfog_bench.zenoh_router"
ROUTED = "routed"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is done to a stage; `Stage.heal` undoes it."""

    name: str
    on: str
    begin: Callable[[Stage], None]
    link: bool = False
    lasts_s: float | None = None  # None: as long as the size says


def _kill_and_freeze(stage: Stage) -> None:
    stage.kill("a")
    stage.freeze("b")


FAULTS = (
    Fault("none", "", lambda _stage: None),
    Fault("SIGKILL", "a", Stage.kill),
    Fault("SIGSTOP 5 s", "a", Stage.freeze, lasts_s=FREEZE_S),
    Fault("SIGKILL and SIGSTOP", "a and b", _kill_and_freeze),
    Fault("slow x10", "a", lambda stage: stage.be(slower=10.0)),
    Fault("CPU contention", "core of a", lambda stage: stage.contend(BURNERS)),
    Fault("garbage answers", "a", Stage.go_mad),
    Fault("leaks until killed", "a", lambda stage: stage.leak(LEAK_MB, ROOM_MB)),
    Fault("link delay +200 ms", "link of a", lambda stage: stage.shape(Impairment(delay_ms=200), "a"), link=True),
    Fault("loss 5 %", "all links", lambda stage: stage.shape(Impairment(loss=0.05), *ZONES), link=True),
    Fault("partition", "link of a", lambda stage: stage.shape(CUT, "a"), link=True),
    Fault(
        "one-way partition",
        "a to robot",
        lambda stage: stage.shape(CUT, "a", both=False, to_robot=True),
        link=True,
    ),
)
RESTART = Fault("zenoh router restart", "router", lambda _stage: None)


@dataclass(frozen=True, slots=True)
class Size:
    """Calls a second of each policy; how long a fault lasts, and the healed fleet is watched, then waited for."""

    hz: float
    fault_s: float
    after_s: float
    heal_s: float
    faults: Sequence[str]


FULL = Size(25.0, 12.0, 4.0, 8.0, [fault.name for fault in (*FAULTS, RESTART)])
QUICK = Size(20.0, 2.5, 0.5, 2.0, ["none", "SIGKILL", "slow x10", "partition"])


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """One fault after another, then the zenoh router, which needs a fleet of its own."""
    report = Report("faults", seed)
    why = why_not()
    network = None
    with ExitStack() as ends:
        if not why:
            try:
                network = ends.enter_context(Network(["robot", *ZONES], seed))
            except NetworkError as error:
                why = str(error)
        say(f"starting three robots with {', '.join(POLICIES)}, and three replicas …")
        stage = _stage(processes, seed, network=network)
        ends.callback(stage.end)
        for fault in FAULTS:
            if fault.name not in size.faults:
                continue
            if fault.link and network is None:
                report.rows += _not_run(fault, why)
                continue
            say(f"{fault.name} …")
            report.rows += rows_of(fault, *_judged(stage, fault, size))
    twice = stage.twice()
    if RESTART.name in size.faults:
        say(f"{RESTART.name} …")
        report.rows += rows_of(RESTART, *_router_restart(processes, size, seed))
    report.goals += _goals(report.rows, twice)
    return report


def _stage(processes: Processes, seed: int, deadline_ms: int = DEADLINE_MS, **more: Any) -> Stage:
    stage = Stage(processes, TIMES, seed, **more)
    for policy in POLICIES:
        stage.add_lane(policy, {"policy": policy, "deadline_ms": deadline_ms})
    stage.start()
    return stage


def _judged(stage: Stage, fault: Fault, size: Size) -> tuple[Calls, dict[str, str]]:
    """The calls from the fault's begin on, and what else there is to say, by policy."""
    lasts_s = size.fault_s if fault.lasts_s is None else fault.lasts_s
    began_ns, note = 0, ""

    def during() -> None:
        nonlocal began_ns, note
        time.sleep(LEAD_S)
        began_ns = time.monotonic_ns()
        try:
            fault.begin(stage)
        except (BenchError, NetworkError) as error:
            note = f"not run: {str(error).splitlines()[0]}"
        time.sleep(lasts_s)
        if fault.name.startswith("leaks") and not note and stage.replicas["a"].process.status != -signal.SIGKILL:
            note = "it was not killed"
        stage.heal()

    calls = stage.call(round((LEAD_S + lasts_s + size.after_s) * size.hz), size.hz, ANSWER_LIMIT_S, during)
    away = stage.until_healed(size.heal_s)
    notes = {policy: note or ("a not yet back" if policy in away else "") for policy in POLICIES}
    return _since(began_ns, calls), notes


def _since(began_ns: int, calls: Calls) -> Calls:
    return {lane: [call for call in made if call.due_ns >= began_ns] for lane, made in calls.items()}


def _router_restart(processes: Processes, size: Size, seed: int) -> tuple[Calls, dict[str, str]]:
    """A fleet whose members meet at one zenoh router, which is killed and comes back."""
    endpoint = free_endpoint()
    routers = [processes.start("zenoh_router", ZENOH_ROUTER, ROUTED, endpoint, domain=0)]
    stage = _stage(processes, seed, router=endpoint, name=ROUTED, deadline_ms=ROUTED_DEADLINE_MS)
    began_ns = 0

    def during() -> None:
        nonlocal began_ns
        time.sleep(LEAD_S)
        began_ns = time.monotonic_ns()
        processes.kill(routers[0])
        time.sleep(DOWN_S)
        routers.append(processes.start("zenoh_router", ZENOH_ROUTER, ROUTED, endpoint, domain=0))
        time.sleep(size.fault_s)

    calls = stage.call(
        round((LEAD_S + DOWN_S + size.fault_s + size.after_s) * size.hz), size.hz, ANSWER_LIMIT_S, during
    )
    return _since(began_ns, calls), dict.fromkeys(POLICIES, f"nobody in reach for {DOWN_S:g} s")


def rows_of(fault: Fault, calls: Calls, notes: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row a policy. A note that begins with "not run" voids the figures."""
    return [_row(fault, policy, calls[policy], notes[policy]) for policy in POLICIES]


def _row(fault: Fault, policy: str, calls: Sequence[Call], note: str) -> dict[str, Any]:
    if note.startswith("not run"):
        calls = []
    took_ms = [(call.answered_ns - call.sent_ns) / MS for call in calls if call.answered_ns is not None]
    asked = [call.asked for call in calls if call.asked]
    return {
        "fault": fault.name,
        "on": fault.on,
        "policy": policy,
        "requests": len(calls) or None,
        "failed": failures(calls) if calls else None,
        "p50_ms": quantile(took_ms, 0.5) if took_ms else None,
        "p99_ms": quantile(took_ms, 0.99) if took_ms else None,
        "max_ms": max(took_ms, default=None),
        "extra_copies": sum(asked) / len(asked) - 1 if asked else None,
        "note": note,
    }


def _not_run(fault: Fault, why: str) -> list[dict[str, Any]]:
    return rows_of(fault, {policy: [] for policy in POLICIES}, dict.fromkeys(POLICIES, f"not run: {why}"))


def failures(calls: Sequence[Call]) -> int:
    """Calls without an answer, or with one that is not OK."""
    return sum(call.answered_ns is None or call.status != 0 for call in calls)


def _goals(rows: Sequence[Any], twice: int) -> list[Goal]:
    """A replica that is healthy and can be reached is there in every row but that of the router."""
    goals = []
    for policy in POLICIES:
        failed = [row["failed"] for row in rows if row["policy"] == policy and row["failed"] is not None]
        goals.append(Goal(f"calls failed, {policy}", 0, sum(failed)))
    goals.append(Goal("calls that one replica ran twice", 0, twice))
    return goals
