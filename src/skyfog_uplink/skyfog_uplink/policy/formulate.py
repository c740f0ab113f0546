"""How likely an option's answer is in time at a rate, and the least rate at which it is likely enough.

TURBO (NINeS 2026) calls S/(SLO - RTT - exec) the critical bandwidth of an option, and takes means. Here every amount is
a distribution, independent of the others:

    P(pre + 8 S/b + RTT + exec <= SLO) = sum over sizes S of share(S) * F(SLO - 8 S/b)

where F is the distribution of pre + RTT + exec. F is held on a grid of STEPS steps to each service's SLO, counted from
the least that the sum can be, so that constants stay exact; all else is rounded up to the grid, so that a promise is
kept. `needed_bps` is where the probability reaches the service's target: for constants TURBO's critical bandwidth.
That the link's rate is uncertain too is the allocator's matter: it asks for the probability at each quantile.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from skyfog_uplink.policy.link import RTT_LEVELS
from skyfog_uplink.policy.model import FLOOR, Distribution, Option, Service, Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

STEPS = 500  # of the grid: 0.3 ms for an SLO of 150 ms
HALVINGS = 22  # of the search for the least time a bit may take
REMEMBERED = 16  # distributions of the RTT, 1 MB each for 20 services with 12 options
RTT_CUTS = (0.25, 0.5, 0.625, 0.75, 0.825, 0.9, 0.93, 0.96, 0.98, 0.99, 1.0)
LEAST_BPS = 1e-3  # less is no rate: a byte takes hours
MOST_BPS = 1e12  # what only a faster link would bring in time has no time for a link
NEAR = 1e-9  # of a step or a share: what rounding of floats may cost


def rtt_distribution(rtts_ms: Sequence[float]) -> Distribution:
    """From the quantiles at RTT_LEVELS, straight between them; each piece is rounded up to its upper end.

    Below the median it mirrors the piece above, and above the last level it goes on as steep as before it.
    """
    assert len(rtts_ms) == len(RTT_LEVELS)
    assert all(math.isfinite(rtt) and rtt >= 0 for rtt in rtts_ms)
    assert list(rtts_ms) == sorted(rtts_ms)
    first, second, before, last = rtts_ms[0], rtts_ms[1], rtts_ms[-2], rtts_ms[-1]
    lower = max(0.0, first - (second - first))
    upper = last + (last - before) * (1 - RTT_LEVELS[-1]) / (RTT_LEVELS[-1] - RTT_LEVELS[-2])
    mirrored = RTT_LEVELS[0] - (RTT_LEVELS[1] - RTT_LEVELS[0])
    values = np.interp(RTT_CUTS, (mirrored, *RTT_LEVELS, 1.0), (lower, *rtts_ms, upper))
    values = np.maximum.accumulate(values)  # interpolation between equals may fall by a rounding error
    kept, where = np.unique(values, return_inverse=True)
    shares = np.bincount(where, weights=np.diff(RTT_CUTS, prepend=0.0))
    return Distribution(tuple(kept.tolist()), tuple(shares.tolist()))


class Needs:
    """What the options of a table need under one distribution of the RTT. Services and options go by their index."""

    def __init__(self, grid: _Grid, rtt: Distribution) -> None:
        self._grid = grid
        # [N] steps left for the link where all else takes its least, and one more: step 0 is "not at all"
        self._slack = grid.slack - rtt.values[0] / grid.step_ms + 1 + NEAR
        self._shares = grid.shares_with(rtt)  # [N, STEPS + 2]
        needed = self._search()
        padded = np.append(needed, math.inf)
        self.needed_bps: Floats = padded[grid.at]  # [services, options]; inf where none is enough, or no such option
        self.needed_bps.setflags(write=False)

    def on_time(self, services: npt.ArrayLike, options: npt.ArrayLike, rates_bps: npt.ArrayLike) -> Floats:
        """Probability that a frame's answer is in time; the three are broadcast. A floor is always in time.

        At no rate, or one that is not a number, nothing is; nor is an option that the service does not have.
        """
        rates = np.asarray(rates_bps, np.float64)
        chosen = np.asarray(options, np.intp)
        flat = self._grid.at[np.asarray(services, np.intp), np.maximum(chosen, 0)]
        some, there = rates > LEAST_BPS, flat < len(self._slack)
        likely = self._likely(np.where(there, flat, 0), 1e3 / np.where(some, rates, LEAST_BPS))
        return np.where(chosen == FLOOR, 1.0, np.where(some & there, likely, 0.0))

    def _likely(self, option: Ints, ms_per_bit: Floats) -> Floats:
        """Probability for options [...] by flat index, at [...] ms a bit; the two are broadcast."""
        return self._looked_up(self._rows(option), ms_per_bit)

    def _rows(self, option: Ints) -> tuple[Floats, Floats, Floats, Ints]:
        """What is looked up with, of options [...]: slack, sizes, their shares, where the option's row begins."""
        grid = self._grid
        row = (option * (STEPS + 2))[..., None]
        return self._slack[option, None], grid.size[option], grid.weights[option], row

    def _looked_up(self, rows: tuple[Floats, Floats, Floats, Ints], ms_per_bit: Floats) -> Floats:
        slack, size, weights, row = rows
        left = slack - size * ms_per_bit[..., None]  # [..., K] steps
        within = np.maximum(left, 0.0, out=left).astype(np.intp)
        within += row
        likely: Floats = np.einsum("...k,...k->...", self._shares.take(within), weights)
        return likely

    def _search(self) -> Floats:
        """The least rate that is enough for each option [N], by halving the time a bit may take."""
        grid = self._grid
        needed = np.full(len(grid.targets), math.inf)
        every = np.arange(len(needed))
        feasible = every[self._likely(every, np.zeros(len(every))) >= grid.targets - NEAR]
        enough, rows = grid.targets[feasible] - NEAR, self._rows(feasible)
        # As slow as a frame can bear that only so many exceed: the answer where all else is constant.
        slow = (self._slack[feasible] - 1 - NEAR) / grid.size_at_target[feasible]
        fast = np.where(self._looked_up(rows, slow) >= enough, slow, 0.0)
        for _ in range(HALVINGS):
            middle = (fast + slow) / 2
            good = self._looked_up(rows, middle) >= enough
            fast, slow = np.where(good, middle, fast), np.where(good, slow, middle)
        with np.errstate(divide="ignore"):
            needed[feasible] = 1e3 / fast
        return np.where(needed > MOST_BPS, math.inf, needed)


class _Grid:
    """A table's options in arrays, one row each over all services; K sizes at most."""

    def __init__(self, table: Table) -> None:
        order = sorted(range(len(table.services)), key=lambda at: table.services[at].slo_ms)
        pairs = [(table.services[at], option) for at in order for option in table.services[at].options]
        counts = [len(service.options) for service in table.services]
        # [services, options] flat index; the last of all where there is no such option
        self.at = np.full((len(counts), max(counts)), len(pairs), np.intp)
        first = 0
        for row in order:
            self.at[row, : counts[row]] = range(first, first + counts[row])
            first += counts[row]
        slos = [service.slo_ms for service, _ in pairs]
        ends = [at + 1 for at, slo in enumerate(slos) if slo not in slos[at + 1 :]]
        self.rows = [slice(begin, end) for begin, end in pairwise((0, *ends))]  # of each SLO
        most = max(len(option.bytes.values) for _, option in pairs)
        self.step_ms = np.array([service.slo_ms / STEPS for service, _ in pairs])
        self.targets = np.array([service.target for service, _ in pairs])
        least = np.array([option.pre_ms.values[0] + option.exec_ms.values[0] for _, option in pairs])
        self.slack = (np.array([service.slo_ms for service, _ in pairs]) - least) / self.step_ms  # [N] steps
        # [N, K] steps that a size takes at 1 bit/ms, smallest first, and its share; filled up with shares of zero
        self.size = np.empty((len(pairs), most))
        self.weights = np.zeros((len(pairs), most))
        for row, (_, option) in enumerate(pairs):
            count = len(option.bytes.values)
            self.size[row, :count] = 8.0 * np.asarray(option.bytes.values) / self.step_ms[row]
            self.size[row, count:] = self.size[row, count - 1]
            self.weights[row, :count] = option.bytes.weights
        within_target = np.cumsum(self.weights, axis=1) >= self.targets[:, None] - NEAR
        self.size_at_target = np.take_along_axis(self.size, np.argmax(within_target, axis=1)[:, None], axis=1)[:, 0]
        # [N, STEPS + 2] share of cases in which pre + exec is within so many steps, less one, above their least sum
        self._own = np.array([_within(option, step) for (_, option), step in zip(pairs, self.step_ms, strict=True)])
        # for each SLO, from which step on none of its rows rises
        self._reach = [int((self._own[rows] == self._own[rows, -1:]).all(0).argmax()) for rows in self.rows]

    def shares_with(self, rtt: Distribution) -> Floats:
        """[N, STEPS + 2] the same of pre + RTT + exec."""
        if len(rtt.values) == 1:
            return self._own
        shares = np.empty(self._own.shape)
        above = np.asarray(rtt.values) - rtt.values[0]
        for rows, reach in zip(self.rows, self._reach, strict=True):
            own, into = self._own[rows, :reach], shares[rows]
            shifts = np.ceil(above / self.step_ms[rows.start] - NEAR).astype(np.intp)
            ends = np.minimum(shifts + reach, STEPS + 2)
            over = np.bincount(ends, weights=rtt.weights, minlength=STEPS + 3).cumsum()  # [STEPS + 3] of round trips
            np.multiply(self._own[rows, -1:], over[:-1], out=into)
            for shift, weight in zip(shifts.tolist(), rtt.weights, strict=True):
                part = into[:, shift : shift + reach]
                part += weight * own[:, : part.shape[1]]
        return shares


def _within(option: Option, step_ms: float) -> Floats:
    """[STEPS + 2] distribution of an option's pre + exec above their least sum, rounded up to steps; first a zero."""
    pre = np.asarray(option.pre_ms.values) - option.pre_ms.values[0]
    cloud = np.asarray(option.exec_ms.values) - option.exec_ms.values[0]
    steps = np.minimum(np.ceil(np.add.outer(pre, cloud) / step_ms - NEAR), STEPS + 1)
    shares = np.outer(option.pre_ms.weights, option.exec_ms.weights)
    histogram = np.bincount(steps.astype(np.intp).ravel() + 1, weights=shares.ravel(), minlength=STEPS + 3)
    within: Floats = np.minimum(np.cumsum(histogram[: STEPS + 2]), 1.0)
    return within


class Formulation:
    """Answers for one table, and remembers the distributions of the RTT that it was asked about last."""

    def __init__(self, table: Table) -> None:
        self._grid = _Grid(table)
        self._known: OrderedDict[tuple[int, ...], Needs] = OrderedDict()

    def under(self, rtts_ms: Sequence[float]) -> Needs:
        """For quantiles as in LinkState, rounded up to whole ms so that what was worked out is used again."""
        key = tuple(math.ceil(rtt - NEAR) for rtt in rtts_ms)
        needs = self._known.pop(key, None) or self.exactly(key)
        self._known[key] = needs
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return needs

    def exactly(self, rtts_ms: Sequence[float]) -> Needs:
        """The same, neither rounded nor remembered."""
        return Needs(self._grid, rtt_distribution(rtts_ms))


@dataclass(frozen=True, slots=True)
class Step:
    """From `bps` on, `option` is the best that can be afforded."""

    bps: float
    option: int
    accuracy: float


def staircase(service: Service, needed_bps: npt.ArrayLike) -> tuple[Step, ...]:
    """The best option by rate, for needed_bps [options] of the service: the floor first, rising in rate and accuracy.

    What needs more than a better one, or never is in time, is on no step: nothing is lost by not planning with it.
    """
    needed = np.asarray(needed_bps, np.float64)
    steps = [Step(0.0, FLOOR, service.floor.accuracy)]
    order = sorted(range(len(service.options)), key=lambda option: (needed[option], -service.accuracy(option)))
    for option in order:
        if math.isfinite(needed[option]) and service.accuracy(option) > steps[-1].accuracy:
            steps.append(Step(float(needed[option]), option, service.accuracy(option)))
    return tuple(steps)


def _alone(option: Option, service: Service, rtts_ms: Sequence[float]) -> Needs:
    return Formulation(Table(service.name, "", (replace(service, options=(option,)),))).exactly(rtts_ms)


def on_time(option: Option, service: Service, rate_bps: float, rtts_ms: Sequence[float]) -> float:
    """Probability that a frame's answer is in time. For many at once: Formulation."""
    return float(_alone(option, service, rtts_ms).on_time(0, 0, rate_bps))


def needed_bps(option: Option, service: Service, rtts_ms: Sequence[float]) -> float:
    """The least rate whose probability reaches the service's target; inf where none does."""
    return float(_alone(option, service, rtts_ms).needed_bps[0, 0])
