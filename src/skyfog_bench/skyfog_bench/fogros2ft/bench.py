"""FogROS2-FT's three scenarios under a slow network and contention: one replica beside each policy over 2, 3 and 4.

Four live planners on one small machine would only slow each other, so this has three parts. Service times of the real
services are recorded one at a time, alone and beside busy processes. The production Router and Admission are replayed
on those times in the simulation, over episodes that each replica has for itself, some hours of them. And a live fleet
is asked for a short while, to see that the replay's figures are of the right size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

from skyfog_bench.fogros2ft import live, plot
from skyfog_bench.fogros2ft.conditions import BOTH, CONTENTION, NETWORK, SLOW_PATH, Condition
from skyfog_bench.fogros2ft.draws import MOST_REPLICAS, Recording, draw_world
from skyfog_bench.fogros2ft.record import RIVALS, Counts, record
from skyfog_bench.fogros2ft.replay import WARM_REQUESTS, Played, play, routing
from skyfog_bench.fogros2ft.table import Cell, Cells, cost_row, goals, latency_row, price_rows
from skyfog_bench.measure import quantile
from skyfog_bench.processes import Processes
from skyfog_bench.report import Report, machine
from skyfog_core.config.router import PolicyName
from skyfog_core.units import S, ns_to_ms

POLICIES: tuple[PolicyName, ...] = ("broadcast", "single", "k_of_n", "hedged", "slo")
SHORT: tuple[PolicyName, ...] = ("broadcast", "slo")  # where there is one trouble only
PATIENCE, LAST_CALL = 1.5, 20.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is recorded, replayed, and asked live."""

    counts: Counts
    requests: int  # of each cell and seed
    seeds: int
    live_calls: int
    workers: int = 2  # processes that replay
    warm: int = WARM_REQUESTS  # of `requests`, not counted


FULL = Size(Counts(calls=300, queries=20, runs=8, contended_runs=3), requests=2_100, seeds=4, live_calls=100)
QUICK = Size(Counts(calls=20, queries=1, runs=MOST_REPLICAS, contended_runs=1), requests=300, seeds=1, live_calls=6)


@dataclass(frozen=True, slots=True)
class Task:
    """One cell, before it is played."""

    recording: Recording
    condition: Condition
    policy: PolicyName
    replicas: int
    pace_s: float
    seed: int
    size: Size


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None], out: Path | None = None) -> Report:
    """Record, replay, check live. With `out`, the recording and a picture are written beside that file."""
    recordings = record(processes, size.counts, seed, say)
    report = Report("fogros2ft", seed)
    report.rows += [{**recording_row(one), "calls_a_cell": size.seeds * size.requests} for one in recordings]
    cells = replay(recordings, size, seed, say)
    report.rows += [latency_row(cells, cell) for cell in cells.cells]
    report.rows += [cost_row(cells, cell) for cell in cells.cells if cell.condition == BOTH]
    report.rows += price_rows()
    report.goals += goals(cells, MOST_REPLICAS)
    rows, found = live.check(processes, recordings[0], size.live_calls, seed, say)
    report.rows += rows
    report.goals += found
    if out is not None:
        write_recordings(recordings, out.with_suffix(".recorded.json"))
        plot.draw(cells, [one.scenario for one in recordings], out.with_suffix(".png"))
    return report


def pace_s(one: Recording) -> float:
    """Between two calls: the usual call of a replica that is both contended and far is over by then.

    So paths are not loaded beyond what they carry, and hardly any request waits for the one before.
    """
    quiet_ms = mean(ms for runs in one.quiet_ms for ms in runs)
    ways_ns = SLOW_PATH.way_ns(one.request_bytes) + SLOW_PATH.way_ns(one.reply_bytes)
    return PATIENCE * (ways_ns / S + quiet_ms * mean(one.slowdown) / 1e3)


def deadline_ms(one: Recording) -> int:
    """So late that nothing is meant to fail, only to be slow: also the longest run, beside the most rivals."""
    longest_ms = max(ms for runs in one.quiet_ms for ms in runs) * max(one.slowdown)
    return round(max(LAST_CALL * pace_s(one) * 1e3, 2 * longest_ms))


def recording_row(one: Recording) -> dict[str, object]:
    """What the replay is made of."""
    times = [ms for runs in one.quiet_ms for ms in runs]
    return {
        "recorded": one.scenario,
        "runs": len(times),
        "alone_p50_ms": quantile(times, 0.5),
        "alone_p99_ms": quantile(times, 0.99),
        "contended_runs": len(one.slowdown),
        "times_slower_p50": quantile(one.slowdown, 0.5),
        "times_slower_p99": quantile(one.slowdown, 0.99),
        "request_bytes": one.request_bytes,
        "reply_bytes": one.reply_bytes,
        "call_every_s": pace_s(one),
    }


def tasks(recordings: list[Recording], size: Size, seed: int) -> Iterator[Task]:
    """One replica and every policy under both troubles; the most replicas and few policies under one of them."""
    for one in recordings:
        for condition in (BOTH, NETWORK, CONTENTION):
            whole = condition is BOTH
            counts = range(2, MOST_REPLICAS + 1) if whole else (MOST_REPLICAS,)
            wanted: list[tuple[PolicyName, int]] = [("single", 1)]
            wanted += [(policy, n) for n in counts for policy in (POLICIES if whole else SHORT)]
            for policy, replicas in wanted:
                yield Task(one, condition, policy, replicas, pace_s(one), seed, size)


def replay(recordings: list[Recording], size: Size, seed: int, say: Callable[[str], None]) -> Cells:
    """Every cell, several at once."""
    todo = list(tasks(recordings, size, seed))
    say(f"replaying {len(todo)} cells of {size.requests} requests, {size.seeds} seeds each …")
    if size.workers == 1:
        return Cells([play_cell(task) for task in todo])
    with ProcessPoolExecutor(size.workers, mp_context=get_context("spawn")) as pool:
        return Cells(list(pool.map(play_cell, todo)))


def play_cell(task: Task) -> Cell:
    """All seeds of one cell. Raises skyfog_sim.check.Broken."""
    one, replicas, size = task.recording, task.replicas, task.size
    played: list[Played] = []
    least: list[tuple[float, ...]] = []
    for number in range(size.seeds):
        seed = 1_000 * task.seed + number
        world = draw_world(one, task.condition, size.requests, task.pace_s, seed)
        config = routing(task.policy, replicas, deadline_ms(one))
        played.append(play(world, config, replicas, seed, size.warm))
        least.append(tuple(ns_to_ms(world.least_ns(i, replicas)) for i in range(size.warm, size.requests)))
    return Cell(one.scenario, task.condition, task.policy, replicas, task.pace_s, tuple(played), tuple(least))


def write_recordings(recordings: list[Recording], path: Path) -> None:
    """What was recorded, and where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "rivals": RIVALS, "recordings": [asdict(one) for one in recordings]}
    path.write_text(json.dumps(content) + "\n")
