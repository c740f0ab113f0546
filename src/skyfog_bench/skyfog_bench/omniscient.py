"""The least that holding the target can cost, with the whole future of the market known: a linear programme.

For each zone z (and one "zone" of the cheapest on-demand machines, without bound) let x_z(t) machines run, and be paid
for, and r_z(t) of them be ready. With w the time from running to ready and p the time from the order to running:

    minimise    sum_z integral price_z(t) x_z(t) dt
    such that   sum_z r_z(t) >= target                          from the grace on
                r_z(t) <= x_z(s)            for s in [t - w, t]     ready are those that have run for w
                x_z(t) <= capacity_z(s)     for s in [t - p, t]     an order holds a place from when it is made

The second line is exact: where the count falls, the youngest go, so that the smallest count within the last w is how
many are old enough. Nothing bills before it runs, nothing runs before 0.

Time is cut at every change of a capacity or a price, and w before and after it. Within a piece everything is replaced
by its mean over the piece, which keeps each constraint that holds for whole pieces: r in one piece is held against x in
the same piece and in the pieces that lie in [t - w, t] for all t of it. So every way to hold the target, in whole
machines or not, gives a solution of the programme with the same cost: its optimum is a lower bound on what any policy
pays that is at target all the time. (Ours is compared with it though it may miss a share of the time; the bound also
knows no notice on which a replica stops before its machine goes, and no slow end of machines.)
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfog_bench.processes import BenchError
from skyfog_core.units import S
from skyfog_sim.machines import HOUR_NS
from skyfog_sim.market import MarketTrace, Steps

SOLVE_LIMIT_S = 300.0

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Optimum:
    """What the solver found."""

    usd: float
    spot_share: float  # of machine time
    pieces: int


@dataclass(frozen=True, slots=True)
class _Column:
    """One zone and market, piece by piece."""

    most: Sequence[float]
    usd: Sequence[float]  # for one machine during the whole piece


def omniscient(
    market: MarketTrace, target: int | Steps, *, provision_ns: int, warm_up_ns: int, grace_ns: int
) -> Optimum:
    """The optimum. Raises BenchError where highspy is not installed, or finds none within its limit of time."""
    wanted = target if isinstance(target, Steps) else Steps((0,), (target,))
    cuts = _cuts(market, wanted, provision_ns, warm_up_ns, grace_ns)
    pieces = list(pairwise(cuts))
    columns = [
        _Column(
            [_least(zone.spot_capacity, start - provision_ns, start) for start, _ in pieces],
            [zone.spot_price.integral(start, end) / HOUR_NS for start, end in pieces],
        )
        for zone in market.zones
    ]
    on_demand = market.cheapest_on_demand()
    columns.append(
        _Column(
            [0.0 if start < provision_ns else math.inf for start, _ in pieces],
            [on_demand * (end - start) / HOUR_NS for start, end in pieces],
        )
    )
    needed = [0.0 if start < grace_ns else wanted.at(start) for start, _ in pieces]
    return _solve(columns, needed, pieces, warm_up_ns)


def _cuts(market: MarketTrace, wanted: Steps, provision_ns: int, warm_up_ns: int, grace_ns: int) -> list[int]:
    """Where anything may change, in order; 0 and the end included."""
    basic = {0, grace_ns, provision_ns, *wanted.times_ns}
    for zone in market.zones:
        for at in zone.spot_capacity.times_ns:
            basic |= {at, at + provision_ns}
        basic |= set(zone.spot_price.times_ns)
    cuts = {at + shift for at in basic for shift in (-warm_up_ns, 0, warm_up_ns)}
    return sorted({0, market.length_ns, *(at for at in cuts if 0 < at < market.length_ns)})


def _least(capacity: Steps, from_ns: int, at_ns: int) -> float:
    """The smallest capacity while an order for a machine that runs at `at_ns` held a place; 0 before the beginning."""
    if from_ns < 0:
        return 0.0
    first, last = bisect_right(capacity.times_ns, from_ns) - 1, bisect_right(capacity.times_ns, at_ns) - 1
    return min(capacity.values[first : last + 1])


class _Rows:
    """Rows of the programme, each `low` <= sum of factor * column."""

    def __init__(self) -> None:
        self.low: list[float] = []
        self.begins: list[int] = []
        self.columns: list[int] = []
        self.factors: list[float] = []

    def add(self, low: float, terms: Sequence[tuple[int, float]]) -> None:
        self.begins.append(len(self.columns))
        self.low.append(low)
        self.columns += [column for column, _ in terms]
        self.factors += [factor for _, factor in terms]


def _solve(
    columns: Sequence[_Column], needed: Sequence[float], pieces: Sequence[tuple[int, int]], warm_up_ns: int
) -> Optimum:
    """Columns of the programme: for each zone x of all pieces, then r of all pieces."""
    count, starts, rows = len(pieces), [start for start, _ in pieces], _Rows()
    running = [2 * count * z for z in range(len(columns))]
    ready = [first + count for first in running]
    cost = np.concatenate([np.concatenate([column.usd, np.zeros(count)]) for column in columns])
    upper = np.concatenate([np.concatenate([column.most, np.full(count, np.inf)]) for column in columns])
    for k, (start, end) in enumerate(pieces):
        rows.add(needed[k], [(first + k, 1.0) for first in ready])
        since = bisect_left(starts, end - warm_up_ns)
        for x, r in zip(running, ready, strict=True):
            if start < warm_up_ns:
                upper[r + k] = 0.0
            for j in range(min(since, k), k + 1):
                rows.add(0.0, [(x + j, 1.0), (r + k, -1.0)])
    usd, found = _minimum(cost, upper, rows)
    lengths = np.array([(end - start) / S for start, end in pieces])
    held = [float(found[first : first + count] @ lengths) for first in running]
    return Optimum(usd, sum(held[:-1]) / max(1e-9, sum(held)), count)


def _minimum(cost: Vector, upper: Vector, rows: _Rows) -> tuple[float, Vector]:
    """The least cost, and the columns that have it."""
    try:
        import highspy  # noqa: PLC0415 - an extra
    except ImportError:
        raise BenchError("highspy is not installed: ./ws setup --with bench") from None
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(cost), len(rows.low)
    model.col_cost_, model.col_lower_, model.col_upper_ = cost, np.zeros(len(cost)), upper
    model.row_lower_, model.row_upper_ = np.array(rows.low), np.full(len(rows.low), np.inf)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.array([*rows.begins, len(rows.columns)])
    model.a_matrix_.index_, model.a_matrix_.value_ = np.array(rows.columns), np.array(rows.factors)
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call, unused-ignore]
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("time_limit", SOLVE_LIMIT_S)
    solver.passModel(model)
    solver.run()
    status = solver.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        raise BenchError(f"no optimum found: {solver.modelStatusToString(status)}")
    return float(solver.getInfo().objective_function_value), np.array(solver.getSolution().col_value)
