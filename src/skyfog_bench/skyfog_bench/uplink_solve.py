"""How long sharing the uplink takes, and what the answer is worth: 20 services with 12 options on a 50 Mbit/s link.

The same drawn problems go to our knapsack, cold and after a change of the link or of one service, to HiGHS, to scipy's
milp (HiGHS behind another door) and to a greedy over convex hulls. `gap_pct` is how far the value is below HiGHS's
optimum, over what the floors are worth. The last rows are whole plans of the allocator, from the link's state to the
grants. Times are processor time of the one thread that works.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import csr_array

from skyfog_bench.measure import quantile
from skyfog_bench.processes import Processes
from skyfog_bench.report import Goal, Report
from skyfog_core import extras
from skyfog_core.config.uplink import AllocatorConfig
from skyfog_core.units import MS
from skyfog_uplink.policy.allocate import Allocator
from skyfog_uplink.policy.link import LEVELS, LinkState
from skyfog_uplink.policy.model import FLOOR, Distribution, Floor, Option, Service, Table, constant
from skyfog_uplink.policy.solve import Choices, Knapsack

SERVICES, OPTIONS = 20, 12
LINK_BPS = 50e6
GRAIN_BPS = 50e3
LIMIT_MS = 2.0
WARM_UP = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Size:
    """How many problems; peers that take long get fewer."""

    problems: int
    slow_problems: int
    plans: int


FULL = Size(problems=1_000, slow_problems=100, plans=2_000)
QUICK = Size(problems=300, slow_problems=30, plans=500)

Solve = Callable[[Choices, float], tuple[int, ...]]


@dataclass(slots=True)
class Timed:
    """What one way took and found."""

    name: str
    took_ms: list[float]
    worths: list[float]


def run(_processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Raises ConfigError where highspy is not installed, and cannot be."""
    extras.need("bench", "highspy")
    report = Report("uplink_solve", seed)
    problems = [drawn(np.random.default_rng([seed, number])) for number in range(size.problems)]
    slow = problems[: size.slow_problems]
    say(f"HiGHS and scipy.milp on {len(slow)} problems …")
    with _quiet():
        exact = timed("HiGHS", highs, slow)
        ways = [exact, timed("scipy.milp", scipy_milp, slow)]
    say(f"ours and the greedy on {len(problems)} problems …")
    ways += [timed("convex-hull greedy", greedy, problems), timed("ours, cold", cold, problems), *warm(problems)]
    for way in ways:
        report.rows.append(_row(way.name, way.took_ms) | {"gap_pct": gap_pct(way, exact, slow)})
    say(f"{size.plans} plans of the allocator …")
    for name, took_ms in plans(size.plans, seed):
        report.rows.append(_row(name, took_ms))
    p99 = {row["what"]: row["p99_ms"] for row in report.rows}
    for name in ("ours, cold", "plan, link stepped"):
        report.goals.append(Goal(f"{name}: P99, ms", LIMIT_MS, p99[name]))
    return report


def drawn(rng: np.random.Generator) -> Choices:
    """Options whose bytes spread over two decades and whose accuracy rises with their logarithm, unevenly."""
    costs = np.sort(np.exp(rng.uniform(np.log(0.1e6), np.log(12e6), (SERVICES, OPTIONS))), axis=1)
    weights, floors = rng.uniform(0.5, 3.0, (SERVICES, 1)), rng.uniform(0.3, 0.5, (SERVICES, 1))
    values = floors + 0.06 * np.log(costs / 0.05e6) + rng.normal(0, 0.02, costs.shape)
    return Choices((weights * floors)[:, 0], weights * values, costs)


def timed(name: str, solve: Solve, problems: list[Choices], warm_up: int = WARM_UP) -> Timed:
    """Every problem once, after some that do not count."""
    for problem in problems[:warm_up]:
        solve(problem, LINK_BPS)
    took_ms, worths = [], []
    for problem in problems:
        began_ns = time.thread_time_ns()
        chosen = solve(problem, LINK_BPS)
        took_ms.append((time.thread_time_ns() - began_ns) / MS)
        worths.append(worth(problem, chosen))
    return Timed(name, took_ms, worths)


def warm(problems: list[Choices]) -> Iterable[Timed]:
    """The same problems after a change of the link, and after one of a service in the middle."""
    link, service = Timed("ours, link stepped", [], []), Timed("ours, one service changed", [], [])
    knapsack = Knapsack(round(LINK_BPS / GRAIN_BPS), GRAIN_BPS)

    def again(problem: Choices, _budget: float) -> tuple[int, ...]:
        knapsack.solve(problem)
        return knapsack.choice(LINK_BPS)

    for problem in problems:
        floors = problem.floors.copy()
        floors[SERVICES // 2] = 0.0
        again(replace(problem, floors=floors), LINK_BPS)
        for into in (service, link):
            once = timed(into.name, again, [problem], warm_up=0)
            into.took_ms += once.took_ms
            into.worths += once.worths
    return service, link


def worth(problem: Choices, chosen: tuple[int, ...]) -> float:
    """The sum of what is chosen."""
    every = np.column_stack((problem.values, problem.floors))  # FLOOR is the last
    return float(every[np.arange(len(problem)), chosen].sum())


def gap_pct(way: Timed, exact: Timed, problems: list[Choices]) -> float:
    """Mean over the problems that HiGHS solved, of the gain over the floors."""
    floors = [float(problem.floors.sum()) for problem in problems]
    gaps = [
        (best - found) / (best - floor) for found, best, floor in zip(way.worths, exact.worths, floors, strict=False)
    ]
    return 100 * sum(gaps) / len(gaps)


def cold(problem: Choices, budget: float) -> tuple[int, ...]:
    """Our knapsack, from nothing."""
    knapsack = Knapsack(round(budget / GRAIN_BPS), GRAIN_BPS)
    knapsack.solve(problem)
    return knapsack.choice(budget)


def greedy(problem: Choices, budget: float) -> tuple[int, ...]:
    """Steps along every service's convex hull, steepest first, as long as they fit."""
    steps = []
    for service in range(len(problem)):
        values, costs = problem.values[service], problem.costs[service]
        spent, value = 0.0, float(problem.floors[service])
        while True:
            better = (values > value) & (costs > spent)
            if not better.any():
                break
            slopes = np.where(better, (values - value) / np.where(better, costs - spent, 1.0), -np.inf)
            at = int(np.argmax(slopes))
            steps.append((float(slopes[at]), service, at, float(costs[at]) - spent))
            spent, value = float(costs[at]), float(values[at])
    chosen, stuck = [FLOOR] * len(problem), set()
    for _, service, option, more in sorted(steps, key=lambda step: -step[0]):
        if service not in stuck and more <= budget:
            chosen[service] = option
            budget -= more
        else:
            stuck.add(service)  # the next step starts from one that was not taken
    return tuple(chosen)


def _rows(problem: Choices) -> csr_array:
    """One row a service, of ones over its options, and a last one of the costs."""
    services, options = problem.values.shape
    at = np.arange(services * options)
    rows = np.concatenate((np.repeat(np.arange(services), options), np.full(len(at), services)))
    data = np.concatenate((np.ones(len(at)), problem.costs.ravel()))
    return csr_array((data, (rows, np.concatenate((at, at)))), shape=(services + 1, len(at)))


def _gains(problem: Choices) -> Floats:
    gains: Floats = (problem.values - problem.floors[:, None]).ravel()
    return gains


def _chosen(problem: Choices, taken: Floats) -> tuple[int, ...]:
    each = taken.reshape(problem.values.shape)
    return tuple(np.where(each.max(1) > 0.5, each.argmax(1), FLOOR).tolist())


def scipy_milp(problem: Choices, budget: float) -> tuple[int, ...]:
    """scipy.optimize.milp."""
    gains = _gains(problem)
    limits = LinearConstraint(_rows(problem), ub=np.append(np.ones(len(problem)), budget))
    found = milp(-gains, constraints=limits, integrality=np.ones(len(gains)), bounds=(0, 1))
    return _chosen(problem, found.x)


def highs(problem: Choices, budget: float) -> tuple[int, ...]:
    """HiGHS through highspy, one thread, to optimality."""
    import highspy  # noqa: PLC0415 - an extra

    gains, rows = _gains(problem), _rows(problem)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(gains), rows.shape[0]
    model.col_cost_, model.col_lower_, model.col_upper_ = -gains, np.zeros(len(gains)), np.ones(len(gains))
    model.row_lower_ = np.full(rows.shape[0], -highspy.kHighsInf)
    model.row_upper_ = np.append(np.ones(len(problem)), budget)
    model.integrality_ = [highspy.HighsVarType.kInteger] * len(gains)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = rows.indptr, rows.indices, rows.data
    # Its threads belong to the process: whoever solved before with another number of them has settled it.
    highspy.Highs.resetGlobalScheduler(True)
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call, unused-ignore]
    for key, value in (("output_flag", False), ("threads", 1), ("mip_rel_gap", 0.0)):
        solver.setOptionValue(key, value)
    solver.passModel(model)
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return _chosen(problem, np.asarray(solver.getSolution().col_value))


def table(rng: np.random.Generator) -> Table:
    """A car as large as the problems, with distributions."""

    def amount(median: float) -> Distribution:
        values = median * np.exp(0.15 * np.array((-1.0, -0.4, 0.0, 0.4, 0.8, 1.3, 2.0)))
        return Distribution(tuple(values.tolist()), (0.2, 0.2, 0.2, 0.15, 0.13, 0.1, 0.02))

    services = []
    for number in range(SERVICES):
        sizes = np.sort(np.exp(rng.uniform(np.log(1e3), np.log(250e3), OPTIONS)))
        accuracies = 0.4 + 0.05 * np.log(sizes / 800.0) + rng.normal(0, 0.02, OPTIONS)
        of = tuple(
            Option(f"o{at}", "m", float(np.clip(accuracy, 0, 1)), amount(float(size)), constant(3.0), amount(40.0))
            for at, (size, accuracy) in enumerate(zip(sizes, accuracies, strict=True))
        )
        slo_ms, rate_hz = float(rng.choice((150, 250, 300))), float(rng.choice((2, 5, 10)))
        floor = Floor("small", 0.4, constant(50.0))
        services.append(Service(f"s{number}", "/s", "t", rate_hz, slo_ms, 0.99, float(rng.uniform(0.5, 3)), floor, of))
    return Table("drawn", "", tuple(services))


def plans(count: int, seed: int) -> Iterable[tuple[str, list[float]]]:
    """Whole plans on a link around 50 Mbit/s: it steps; the round trip changes too; a service is lowered or raised."""
    rng = np.random.default_rng(seed)
    fresh = Allocator(table(rng), AllocatorConfig())
    for name, jitter_ms in (("plan, link stepped", 0.0), ("plan, round trip new", 40.0)):
        took_ms, now_ns = [], 0
        for _ in range(WARM_UP + count):
            now_ns += 250 * MS
            state = _state(rng, now_ns, jitter_ms)
            began_ns = time.thread_time_ns()
            made = fresh.on_link(state, now_ns) or fresh.on_timer(now_ns)
            took_ms.append((time.thread_time_ns() - began_ns) / MS)
            assert made is not None
        fresh.check()
        yield name, took_ms[WARM_UP:]


def _state(rng: np.random.Generator, now_ns: int, jitter_ms: float) -> LinkState:
    """Around 50 Mbit/s, a fifth up or down."""
    rate = LINK_BPS * float(np.exp(rng.normal(0, 0.2)))
    rates = tuple((rate * np.exp(np.linspace(-0.6, 0.3, len(LEVELS)))).tolist())
    rtt_ms = 30.0 + jitter_ms * float(rng.random())
    return LinkState(now_ns, True, rates, (rtt_ms, rtt_ms + 3, rtt_ms + 6, rtt_ms + 15), rtt_ms, rtt_ms)


@contextmanager
def _quiet() -> Iterator[None]:
    """HiGHS prints from C++, whatever it is told."""
    sys.stdout.flush()
    with Path(os.devnull).open("w") as nowhere:
        kept = os.dup(1)
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def _row(what: str, took_ms: list[float]) -> dict[str, Any]:
    p50, p95, p99 = (quantile(took_ms, q) for q in (0.5, 0.95, 0.99))
    return {"what": what, "runs": len(took_ms), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}
