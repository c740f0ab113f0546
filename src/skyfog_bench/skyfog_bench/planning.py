"""Motion planning: times on four problem sets, beside two peers, and what the first of N replicas gives.

A row's times are of solved and unsolved queries; an unsolved one counts as long as it was searched for. `passed` is the
share of the found paths that pass Skyfog's independent check of collisions, timed along their own way-points. OMPL is
run by hand on the meshes, which the check uses too, and on the packaged spheres, which are faster to ask about, here
too thick and there too thin.

The tail is computed, not served: each query is planned several times, one after the other, with different seeds, and
every choice of N of these runs counts as N replicas that start together. On a machine with a core a replica that is
what N replicas do; what the router adds is measured by `overhead`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skyfog_bench.measure import quantile
from skyfog_bench.processes import BenchError, Processes
from skyfog_bench.report import Goal, Report
from skyfog_core import extras
from skyfog_core.environments import INSTALL_COMMAND, python_of
from skyfog_core.errors import ConfigError
from skyfog_core.rng import stream
from skyfog_planning.options import Options
from skyfog_planning.problem import PlanError
from skyfog_planning.problems import SETS, ProblemSet, load_set
from skyfog_planning.robots import read_robot
from skyfog_planning.workers import Pool

GRACE_S = 1.0
REPLICAS = 4
TAIL_SET = "narrow_bins"
WHOLE, SEARCH, MPLIB = "Skyfog", "Skyfog search", "mplib"
OMPL_MESHES, OMPL_SPHERES = "OMPL + Python, meshes", "OMPL + Python, spheres"
PEER_SLACK_S = 60.0
BASELINES = Path(__file__).parent / "baselines"


@dataclass(frozen=True, slots=True)
class Size:
    """How many queries of each set, and how long each may take."""

    queries: int
    tail_queries: int
    budget_s: float


FULL = Size(20, 10, 5.0)
QUICK = Size(2, 2, 1.5)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One query: how long until its end, and a path [N][J] where there is one."""

    ms: float
    path: list[list[float]] | None


def run(_processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """All sets, then the tail."""
    try:
        extras.need("planning", "ompl", "pinocchio", "coal", "toppra", "pyroboplan")
    except ConfigError as error:
        raise BenchError(str(error)) from None
    report = Report("planning", seed)
    mplib = python_of("mplib")
    medians: dict[tuple[str, str], float] = {}
    absent: set[tuple[str, str]] = set()  # there, but it found no plan at all
    failed = 0
    pool = Pool(1, ["panda"], Options(), GRACE_S)
    try:
        for name in SETS:
            queries = load_set(name)
            chosen = sorted(stream(seed, "queries", name).sample(range(len(queries)), size.queries))
            rows = _one_set(queries, chosen, size, seed, pool, mplib, say)
            report.rows += rows
            medians |= {(name, row["planner"]): row["p50_ms"] for row in rows if row["found"]}
            absent |= {(name, row["planner"]) for row in rows if row["found"] == 0}
            failed += rows[0]["found"] - rows[0]["passed"]
        tail = _tail(size, seed, pool, say)
    finally:
        pool.close()
    report.rows += tail
    report.goals += [
        Goal("plans that fail the check when it is made again", 0, failed),
        Goal("narrow bins: p90 of the first of 4 / p90 of one", 0.6, tail[-1]["p90_s"] / tail[0]["p90_s"]),
        *(_against(name, SEARCH, peer, medians, absent) for peer in (OMPL_MESHES, OMPL_SPHERES) for name in SETS),
        *(_against(name, WHOLE, MPLIB, medians, absent) for name in SETS),
    ]
    return report


def _against(
    name: str, mine: str, peer: str, medians: dict[tuple[str, str], float], absent: set[tuple[str, str]]
) -> Goal:
    """Like with like: OMPL searches only; MPlib shortens and times its plans too, though it checks none again."""
    title = f"{name}: median of {mine} / {peer}"
    if (name, peer) in absent:
        return Goal(title, 1.0, None, why="the peer finds no plan here; its model touches the scene from the start")
    if (name, peer) not in medians:
        return Goal(title, 1.0, None, why=f"not installed: {INSTALL_COMMAND} mplib")
    return Goal(title, 1.0, medians[name, mine] / medians[name, peer])


def _one_set(
    queries: ProblemSet,
    chosen: Sequence[int],
    size: Size,
    seed: int,
    pool: Pool,
    mplib: Path | None,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    from skyfog_planning.check import Checker  # noqa: PLC0415 - needs the extra, which `run` may have installed

    robot = read_robot(queries.robot)
    checker = Checker(robot)
    job = job_of(queries, chosen, size.budget_s, seed)
    rows = []
    say(f"{queries.name}: Skyfog …")
    searched, whole = _skyfog(queries, chosen, size.budget_s, seed, pool)
    rows.append(row_of(queries, WHOLE, whole, chosen, checker))
    rows.append(row_of(queries, SEARCH, searched, chosen, checker))
    for peer, urdf in ((OMPL_MESHES, robot.urdf), (OMPL_SPHERES, robot.spheres_urdf)):
        say(f"{queries.name}: {peer} …")
        theirs = _peer([sys.executable, str(BASELINES / "ompl_checker.py")], {**job, "urdf": str(urdf)})
        rows.append(row_of(queries, peer, theirs, chosen, checker))
    if mplib is None:
        rows.append(dict.fromkeys(rows[0]) | {"set": queries.name, "planner": f"{MPLIB}: not installed"})
    else:
        say(f"{queries.name}: mplib …")
        found = _peer([str(mplib), str(BASELINES / "mplib_planner.py")], job)
        rows.append(row_of(queries, MPLIB, found, chosen, checker))
    return rows


def _skyfog(
    queries: ProblemSet, chosen: Sequence[int], budget_s: float, seed: int, pool: Pool
) -> tuple[list[Outcome], list[Outcome]]:
    """Through the pool, as the service does it: the search's own time, and all until the caller has its trajectory."""
    searched, whole = [], []
    for number in chosen:
        problem = queries.problem(number, seed=1 + 1_000 * seed + number, budget_s=budget_s)
        began = time.perf_counter()
        try:
            plan = pool.plan(problem)
        except PlanError:
            took = (time.perf_counter() - began) * 1e3
            whole.append(Outcome(took, None))
            searched.append(Outcome(took, None))
            continue
        path = plan.trajectory.positions.tolist()
        whole.append(Outcome((time.perf_counter() - began) * 1e3, path))
        searched.append(Outcome(plan.stages.plan_ms, path))
    return searched, whole


def job_of(queries: ProblemSet, chosen: Sequence[int], budget_s: float, seed: int) -> dict[str, Any]:
    """What a peer needs to know, as JSON."""
    robot = read_robot(queries.robot)
    return {
        "robot": robot.name,
        "urdf": str(robot.urdf),
        "mesh_root": str(robot.mesh_root),
        "joints": list(robot.joints),
        "lower": robot.lower.tolist(),
        "upper": robot.upper.tolist(),
        "others": robot.spec.others,
        "rest": robot.spec.ready,
        "tool_link": robot.spec.tool.parent,
        "never_collide": robot.spec.never_collide,
        "boxes": queries.boxes,
        "queries": [[queries.starts[i].tolist(), queries.goals[i].tolist()] for i in chosen],
        "budget_s": budget_s,
        "seed": seed,
    }


def _peer(command: list[str], job: dict[str, Any]) -> list[Outcome]:
    limit = job["budget_s"] * len(job["queries"]) + PEER_SLACK_S
    try:
        done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, timeout=limit, check=True)
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{Path(command[1]).name} failed:\n{error.stderr[-2_000:]}") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{Path(command[1]).name} did not end within {limit:.0f} s") from None
    return [Outcome(one["ms"], one["path"]) for one in json.loads(done.stdout.splitlines()[-1])]


def row_of(
    queries: ProblemSet, planner: str, outcomes: Sequence[Outcome], chosen: Sequence[int], checker: Any
) -> dict[str, Any]:
    """One line of the table."""
    times = [one.ms for one in outcomes]
    found = sum(1 for one in outcomes if one.path is not None)
    passed = sum(
        1 for one, number in zip(outcomes, chosen, strict=True) if one.path and _passes(queries, number, one, checker)
    )
    return {
        "set": queries.name,
        "planner": planner,
        "queries": len(outcomes),
        "found": found,
        "passed": passed,
        "p50_ms": quantile(times, 0.5),
        "p90_ms": quantile(times, 0.9),
        "p99_ms": quantile(times, 0.99),
        "max_ms": max(times),
    }


def _passes(queries: ProblemSet, number: int, outcome: Outcome, checker: Any) -> bool:
    """Whether the path is free of collisions; straight lines between its way-points, so that timing plays no part."""
    from skyfog_planning import timing  # noqa: PLC0415 - needs the extra

    robot = read_robot(queries.robot)
    path = np.array(outcome.path, float)
    path[0], path[-1] = queries.starts[number], queries.goals[number]  # peers stop within their own tolerance
    timed = timing.corners(robot.joints, path, robot.velocity, robot.acceleration)
    return bool(checker.check(queries.problem(number, seed=1), timed).passed)


def _tail(size: Size, seed: int, pool: Pool, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Seconds to the first of N independent plans of the same query."""
    queries = load_set(TAIL_SET)
    chosen = stream(seed, "tail").sample(range(len(queries)), size.tail_queries)
    runs: list[list[float]] = []
    for count, number in enumerate(chosen, 1):
        say(f"{TAIL_SET}: query {count} of {len(chosen)}, {REPLICAS} times …")
        seeds = [1 + stream(seed, "tail", str(number), str(r)).getrandbits(31) for r in range(REPLICAS)]
        runs.append([])
        for one in seeds:
            began = time.perf_counter()
            with contextlib.suppress(PlanError):  # its time is the budget
                pool.plan(queries.problem(number, seed=one, budget_s=size.budget_s))
            runs[-1].append(time.perf_counter() - began)
    return tail_rows(runs)


def tail_rows(runs: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Seconds [queries][replicas] -> a row for each N: every choice of N runs of a query counts once."""
    rows = []
    for replicas in range(1, len(runs[0]) + 1):
        firsts = [min(choice) for query in runs for choice in itertools.combinations(query, replicas)]
        rows.append({
            "set": TAIL_SET,
            "first_of": replicas,
            "queries": len(runs),
            "p50_s": quantile(firsts, 0.5),
            "p90_s": quantile(firsts, 0.9),
            "p99_s": quantile(firsts, 0.99),
            "max_s": max(firsts),
        })  # fmt: skip
    return rows
