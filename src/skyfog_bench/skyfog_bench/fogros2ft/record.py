"""Service times of the real services, one request at a time on one core: alone, and beside busy processes.

The core is what a replica of the smallest rented machine has. The busy processes never sleep and share it evenly with
the service: what a crowded machine, or a throttled one, does to a replica. Each has a session of its own, since kernels
that group processes by session give all of one session a single share.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from skyfog_bench.fogros2ft.draws import Recording
from skyfog_bench.perception import SERVICE_MODULE, write_photograph
from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_core import extras
from skyfog_core.errors import ConfigError
from skyfog_core.ports import claim_domain
from skyfog_core.rng import stream
from skyfog_planning.options import Options
from skyfog_planning.problem import PlanError
from skyfog_planning.problems import ProblemSet, load_set
from skyfog_planning.workers import Pool

DETECTION, SEGMENTATION, PLANNING = "detection", "segmentation", "planning"
CASES = {DETECTION: "detect", SEGMENTATION: "segment"}
RIVALS = 3  # busy processes beside the service: a quarter of the core is left
PROBLEMS = "narrow_bins"
BUDGET_S = 20.0  # longer than any plan took, also beside rivals
START_LIMIT_S, ROUND_LIMIT_S = 60.0, 120.0
WARM = 5
BURN = "skyfog_bench.burn"


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is recorded."""

    calls: int  # of each perception service, in each condition
    queries: int  # of the planner
    runs: int  # of each query, alone
    contended_runs: int  # of each query, beside rivals: the same seeds as the first ones alone


def record(processes: Processes, counts: Counts, seed: int, say: Callable[[str], None]) -> list[Recording]:
    """All three services. Raises BenchError where one does not do its part or its extra is not installed."""
    core = max(os.sched_getaffinity(0))
    recordings = _perception(processes, counts, core, say)
    return [*recordings, _planning(processes, counts, seed, core, say)]


def _perception(processes: Processes, counts: Counts, core: int, say: Callable[[str], None]) -> list[Recording]:
    image = processes.folder / "photograph.jpg"
    write_photograph(image)
    with on_core(core):  # also the threads that it will make
        service = processes.start("perception", SERVICE_MODULE, str(image), domain=claim_domain())
    made = []
    for scenario, case in CASES.items():
        say(f"{scenario}: {counts.calls} calls alone on core {core}, {counts.calls} beside {RIVALS} busy processes …")
        sizes = service.ask(START_LIMIT_S, do="sizes", case=case)["bytes"]
        quiet = _calls(service, case, counts.calls)
        with rivals(processes, core):
            contended = _calls(service, case, counts.calls)
        slowdown = tuple(ms / median(quiet) for ms in contended)
        made.append(Recording(scenario, (tuple(quiet),), slowdown, sizes[0], sizes[1], can_stop=False))
    service.release()  # it serves until its input ends
    processes.end([service])
    return made


def _calls(service: Process, case: str, count: int) -> list[float]:
    """Milliseconds of each whole callback."""
    calls = service.ask(ROUND_LIMIT_S, do="round", case=case, count=count, warm=WARM)["calls"]
    return [call[0] for call in calls]


def _planning(processes: Processes, counts: Counts, seed: int, core: int, say: Callable[[str], None]) -> Recording:
    try:
        extras.need("planning", "ompl", "pinocchio", "coal", "toppra", "pyroboplan")
    except ConfigError as error:
        raise BenchError(str(error)) from None
    queries = load_set(PROBLEMS)
    chosen = sorted(stream(seed, "queries", PROBLEMS).sample(range(len(queries)), counts.queries))
    with on_core(core):
        pool = Pool(1, ["panda"], Options(), 1.0)
    try:
        pool.plan(queries.problem(chosen[0], seed=1, budget_s=BUDGET_S))
        say(f"{PLANNING}: {counts.queries} queries {counts.runs} times alone on core {core} …")
        timed = [[_plan(pool, queries, number, seed, run) for run in range(counts.runs)] for number in chosen]
        say(f"{PLANNING}: the first {counts.contended_runs} of each again beside {RIVALS} busy processes …")
        with rivals(processes, core):
            again = [[_plan(pool, queries, number, seed, run)[0] for run in range(counts.contended_runs)]
                     for number in chosen]  # fmt: skip
    finally:
        pool.close()
    quiet = tuple(tuple(ms for ms, _ in runs) for runs in timed)
    slowdown = slowdowns(quiet, again)
    reply_bytes = max(size for runs in timed for _, size in runs)
    request_bytes = queries.starts[0].nbytes + queries.goals[0].nbytes + 48 * len(queries.boxes)
    return Recording(PLANNING, quiet, slowdown, request_bytes, reply_bytes, can_stop=True)


def slowdowns(quiet: Sequence[Sequence[float]], contended: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Contended / quiet of each run that was recorded in both ways."""
    pairs = [pair for one, two in zip(quiet, contended, strict=True) for pair in zip(one, two, strict=False)]
    return tuple(slow / fast for fast, slow in pairs)


def _plan(pool: Pool, queries: ProblemSet, number: int, seed: int, run: int) -> tuple[float, int]:
    """Milliseconds until the caller has the trajectory, and its bytes. Without a plan: until that is known."""
    drawn = 1 + stream(seed, "plan", str(number), str(run)).getrandbits(31)
    began = time.perf_counter()
    try:
        found = pool.plan(queries.problem(number, seed=drawn, budget_s=BUDGET_S)).trajectory
    except PlanError:
        return (time.perf_counter() - began) * 1e3, 0
    took_ms = (time.perf_counter() - began) * 1e3
    return took_ms, sum(a.nbytes for a in (found.times, found.positions, found.velocities, found.accelerations))


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What this thread starts meanwhile runs on that core alone, and so does what that starts."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def rivals(processes: Processes, core: int, count: int = RIVALS) -> Iterator[list[int]]:
    """Busy processes on that core; their ids."""
    started = [processes.start(f"burner{i}", BURN, str(core), domain=0) for i in range(count)]
    try:
        yield [one.pid for one in started]
    finally:
        processes.end(started)
