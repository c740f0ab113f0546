"""`skyfog bench pool_live`: requests flow while the market takes machines, the controller dies, and a zone is cut off.

Nothing may be lost, nothing may be run twice, and the target is to be reached again after every fault. The report says
what happened in each second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skyfog_bench.fleet import START_LIMIT_S
from skyfog_bench.pace import Call
from skyfog_bench.pool_live import plot, record, script
from skyfog_bench.pool_live.record import Second
from skyfog_bench.pool_live.script import Act, Taken
from skyfog_bench.pool_live.stage import LANES, LivePool, Size, living, must_start
from skyfog_bench.processes import Processes
from skyfog_bench.report import Goal, Report
from skyfog_core.units import S

FULL = Size(target=4, hz=20.0, seconds=300.0, notice_s=8.0)
QUICK = Size(target=3, hz=20.0, seconds=20.0, notice_s=3.0, restore_s=20.0, at_target=0.25)
BYTES = 1_024
ANSWER_LIMIT_S = 12.0  # beyond the robots' deadline
LOOK_S = 1.0
STOP_MS = 100.0
LAUNCHES = 15  # for each replica wanted: a pool that launches and gives back all the time finds no rest


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None], out: Path | None = None) -> Report:
    """One pool, one script."""
    make = script.full if size.seconds >= FULL.seconds else script.quick
    say(f"starting a cloud, a router, two robots and a pool of {size.target} …")
    with living(processes, size) as pool:
        pool.start_controller()
        must_start(pool)
        client = pool.fleet.client()
        for lane in LANES:
            client.ask(START_LIMIT_S + 5, do="wait", service=lane, limit_s=START_LIMIT_S)
        count = round(size.hz * size.seconds)
        began_ns = time.monotonic_ns()
        client.send(do="paced", lanes=pool.lanes, size=BYTES, count=count, hz=size.hz, limit_s=ANSWER_LIMIT_S)
        seconds, taken, last_ns = _play(pool, make(size.seconds, size.notice_s), began_ns, say)
        answer = client.receive(ANSWER_LIMIT_S + 10)["calls"]
        calls = {lane: [Call(*call) for call in made] for lane, made in answer.items()}
        _settle(pool, seconds, last_ns, size.restore_s)
        say("taking it down …")
        left = pool.take_down()
        ran = pool.executions()
        launched = pool.launched()
        stopped = list(record.stops(list(pool.traces.values()), taken))
    report = Report("pool_live", seed)
    timeline = record.rows(seconds, calls, began_ns)
    report.rows += timeline
    report.rows += record.lane_rows(calls, ran)
    report.rows += [{"given_notice": str(who), "left_after_ms": a, "last_request_ms": b} for who, a, b in stopped]
    report.goals += _goals(report.rows, seconds, size, last_ns, stopped)
    report.goals[2:2] = [
        Goal("calls that one replica ran twice", 0, record.twice(ran)),
        Goal("machines left after `down`", 0, left),
        Goal("replicas launched", LAUNCHES * size.target, launched),
    ]
    if out is not None:
        plot.draw(timeline, out.with_suffix(".png"))
    return report


def _play(
    pool: LivePool, acts: list[Act], began_ns: int, say: Callable[[str], None]
) -> tuple[list[Second], Taken, int]:
    """Do what the script says while the calls go on, and look at the pool once a second. Also when the last was."""
    seconds: list[Second] = []
    taken: Taken = []
    done: list[str] = []
    last_ns = began_ns
    end_s = pool.size.seconds
    look_s = 0.0
    while (now_s := (time.monotonic_ns() - began_ns) / S) < end_s:
        while acts and acts[0].at_s <= now_s:
            what, given = acts.pop(0).begin(pool)
            last_ns = time.monotonic_ns()
            taken += given
            if what:
                say(f"{now_s:.0f} s: {what}")
                done.append(what)
        if look_s <= now_s:
            seconds.append(record.look(pool, time.monotonic_ns()))
            seconds[-1].did, done = done, []
            look_s += LOOK_S
        due_s = min(look_s, acts[0].at_s if acts else end_s, end_s)
        time.sleep(max(0.0, due_s - (time.monotonic_ns() - began_ns) / S))
    return seconds, taken, last_ns


def _settle(pool: LivePool, seconds: list[Second], last_ns: int, limit_s: float) -> None:
    """Go on looking until the target is reached, and no machine is left that is about to go."""
    while len(seconds[-1].live) < pool.size.target and time.monotonic_ns() - last_ns < limit_s * S:
        time.sleep(LOOK_S)
        seconds.append(record.look(pool, time.monotonic_ns()))


def _goals(
    rows: list[Any],
    seconds: list[Second],
    size: Size,
    last_ns: int,
    stopped: list[Any],
) -> list[Goal]:
    lanes = {row["lane"]: row for row in rows if "lane" in row}
    restored = record.restored_s(seconds, size.target, last_ns)
    at_target = sum(len(second.live) >= size.target for second in seconds) / len(seconds)
    goals = [
        Goal("calls lost", 0, sum(row["lost"] for row in lanes.values())),
        Goal("calls failed, idempotent", 0, lanes["idempotent"]["failed"]),
        Goal("calls not to be run twice that several ran", 0, lanes["once"]["run_by_several"]),
    ]
    if restored is None:
        why = f"{len(seconds[-1].live)} of {size.target} replicas {size.restore_s:g} s after the last fault"
        goals.append(Goal("target reached again after the last fault", size.restore_s, None, "s", why=why))
    else:
        goals.append(Goal("target reached again after the last fault", size.restore_s, restored, "s"))
    if stopped:
        last_ms = max(ms for _, _, ms in stopped)
        goals.append(Goal("notice to the last request, at most", STOP_MS, last_ms, "ms"))
    else:
        goals.append(Goal("notice to the last request, at most", STOP_MS, None, "ms", why="nobody was given notice"))
    goals.append(Goal("share of looks at which the target was reached", size.at_target, at_target, at_least=True))
    return goals
