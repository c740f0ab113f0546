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
by its mean over the piece, which keeps what holds for whole pieces: r of a piece is held against x of the same piece,
of those that lie in [t - w, t] for all t of it, and of the piece shifted back by w (a weighted mean of pieces where
the cuts do not fall together). So every way to hold the target, in whole machines or not, gives a solution of the
programme with the same cost: its optimum is a lower bound on what any policy pays that is at target all the time.
`achievable` instead holds r against every piece that touches [t - w, t]: a plan in fractions of machines that can be
carried out as it stands, so that the two together say how tight the bound is.

A long market is solved in parts of AT_ONCE pieces, each as if what ran before it had come for nothing: a lower bound
still, by less than what one cold start a part costs.

(Ours is compared with the bound though it may miss a share of the time; the bound also knows no notice on which a
replica stops before its machine goes, and no slow end of machines.)
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfog_bench.processes import BenchError
from skyfog_core.units import S
from skyfog_sim.machines import HOUR_NS
from skyfog_sim.market import MarketTrace, Steps, steps_of

SOLVE_LIMIT_S = 60.0
AT_ONCE = 2_000  # pieces: the solver's time grows faster than the size

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Optimum:
    """What the solver found."""

    usd: float
    spot_share: float  # of machine time
    pieces: int


@dataclass(frozen=True, slots=True)
class _Part:
    """The optimum of some pieces."""

    usd: float
    machine_s: float
    spot_s: float


@dataclass(frozen=True, slots=True)
class _Column:
    """One zone and market, piece by piece."""

    most: Sequence[float]
    usd: Sequence[float]  # for one machine during the whole piece


def omniscient(
    market: MarketTrace,
    target: int | Steps,
    *,
    provision_ns: int,
    warm_up_ns: int,
    grace_ns: int,
    achievable: bool = False,
) -> Optimum:
    """The optimum. Needs highspy. Raises BenchError where none is found within the limit of time."""
    wanted = target if isinstance(target, Steps) else Steps((0,), (target,))
    market = _clipped(market, max(wanted.values))
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
    held_against = [_held_against(cuts, k, warm_up_ns, achievable) for k in range(len(pieces))]
    parts = [
        _solve(columns, needed, pieces, held_against, range(first, min(len(pieces), first + AT_ONCE)))
        for first in range(0, len(pieces), AT_ONCE)
    ]
    held = sum(part.machine_s for part in parts)
    spot = sum(part.spot_s for part in parts)
    return Optimum(sum(part.usd for part in parts), spot / max(1e-9, held), len(pieces))


def _clipped(market: MarketTrace, most: float) -> MarketTrace:
    """The market without places that are of no use: fewer changes, the same optimum."""
    zones = [
        replace(zone, spot_capacity=steps_of((at, min(most, value)) for at, value in zone.spot_capacity.points()))
        for zone in market.zones
    ]
    return replace(market, zones=tuple(zones))


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


Terms = list[tuple[int, float]]  # piece, or column, and its factor


def _held_against(cuts: Sequence[int], k: int, warm_up_ns: int, achievable: bool) -> list[Terms] | None:
    """What r of piece k may not exceed: means of x over pieces. None where nothing can be ready yet."""
    start, end = cuts[k], cuts[k + 1]
    if start < warm_up_ns:
        return None
    if achievable:
        return [[(j, 1.0)] for j in range(bisect_right(cuts, start - warm_up_ns) - 1, k + 1)]
    inside = [[(j, 1.0)] for j in range(min(k, bisect_left(cuts, end - warm_up_ns)), k + 1)]
    shifted: Terms = []
    for j in range(bisect_right(cuts, start - warm_up_ns) - 1, bisect_left(cuts, end - warm_up_ns)):
        both = min(cuts[j + 1], end - warm_up_ns) - max(cuts[j], start - warm_up_ns)
        shifted.append((j, both / (end - start)))
    return [*inside, shifted]


class _Rows:
    """Rows of the programme, each `low` <= sum of factor * column."""

    def __init__(self) -> None:
        self.low: list[float] = []
        self.begins: list[int] = []
        self.columns: list[int] = []
        self.factors: list[float] = []

    def add(self, low: float, terms: Terms) -> None:
        self.begins.append(len(self.columns))
        self.low.append(low)
        self.columns += [column for column, _ in terms]
        self.factors += [factor for _, factor in terms]


def _solve(
    columns: Sequence[_Column],
    needed: Sequence[float],
    pieces: Sequence[tuple[int, int]],
    held_against: Sequence[list[Terms] | None],
    part: range,
) -> _Part:
    """The pieces of `part`, as if what ran before it were free. Columns: by zone x of each piece, then r of each."""
    count, rows = len(part), _Rows()
    running = [2 * count * z for z in range(len(columns))]
    ready = [first + count for first in running]
    cost, upper = np.zeros(2 * count * len(columns)), np.full(2 * count * len(columns), np.inf)
    for column, x in zip(columns, running, strict=True):
        cost[x : x + count] = column.usd[part.start : part.stop]
        upper[x : x + count] = column.most[part.start : part.stop]
    for k in part:
        here, limits = k - part.start, held_against[k]
        rows.add(needed[k], [(r + here, 1.0) for r in ready])
        for x, r in zip(running, ready, strict=True):
            if limits is None:
                upper[r + here] = 0.0
            for terms in limits or []:
                if all(j in part for j, _ in terms):
                    rows.add(0.0, [*((x + j - part.start, factor) for j, factor in terms), (r + here, -1.0)])
    usd, found = _minimum(cost, upper, rows)
    lengths = np.array([(pieces[k][1] - pieces[k][0]) / S for k in part])
    held = [float(found[x : x + count] @ lengths) for x in running]
    return _Part(usd, sum(held), sum(held[:-1]))


def _minimum(cost: Vector, upper: Vector, rows: _Rows) -> tuple[float, Vector]:
    """The least cost, and the columns that have it."""
    import highspy  # noqa: PLC0415 - an extra

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
