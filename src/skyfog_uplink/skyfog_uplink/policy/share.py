"""One plan: which option for each service at what rate, when the link is known by quantiles.

Candidates are budgets: the quantiles of the link's rate up to `risk`. For each the knapsack says the best options,
each at its needed rate (formulate.py), which keeps the service's target as long as the link delivers the budget. What
is left of the budget is spread in proportion, so that all services have the same margin. A link of rate R that is
slower than what is granted is shared in proportion too: earliest deadline first meets every deadline that such a
split meets, so the probability that is computed here is a lower bound of what the shaper reaches:

    P_i = E_R[ on_time_i(needed_i * min(budget, R) / needed) ],    needed = sum of needed_i

What runs already is a candidate too, up to `keep_risk`, so that a budget that trembles moves nothing. The plan is the
candidate with the greatest sum of weight_i * (floor_i + P_i * (accuracy_i - floor_i)): a late answer is worth the
floor's, which is there anyway. Changing a service costs `switch_cost` of its weight, in the knapsack itself.

What the link delivers in the median beyond what is needed goes, by `probe_share`, to probes: a second knapsack over
what each better option would add, so that what is learnt of the link is learnt with frames that somebody wants.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyfog_core.config.uplink import AllocatorConfig
from skyfog_uplink.policy.formulate import Needs
from skyfog_uplink.policy.link import LEVELS, LinkState
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Grant
from skyfog_uplink.policy.solve import Choices, Knapsack, padded

Floats = NDArray[np.float64]

CELLS = 1_000  # of the grid at least, over the rates that are planned with
PROBE_CELLS = 256
ROOM = 1.25  # the grid ends at this much more than what is asked of it now, so that it need not grow at every step
LEAST_BPS = 1e3  # what a grid reaches at least
TAIL = 0.5  # the slowest LEVELS[0] of links are taken as half as fast as the quantile that bounds them
SURER = np.array((1.0, 1.5, 2.5))  # rates that a probe may be given, in what a frame like most needs
MEDIAN = LEVELS.index(0.5)

# The link's rate as a discrete distribution: between two quantiles it is the lower one.
SHARES = np.diff(np.array((0.0, *LEVELS, 1.0)))


@dataclass(frozen=True, slots=True)
class Now:
    """What a plan is made from. Arrays are by service, in the table's order."""

    link: LinkState
    needs: Needs
    weights: Floats
    current: tuple[int, ...]  # options that run
    held: tuple[bool, ...]  # not to be raised yet
    moving: Floats  # utility that a change must gain, in parts of the weight


@dataclass(frozen=True, slots=True)
class Shared:
    """The grants of a plan."""

    budget_bps: float
    grants: tuple[Grant, ...]
    utility: float

    @property
    def options(self) -> tuple[int, ...]:
        return tuple(grant.option for grant in self.grants)


@dataclass(frozen=True, slots=True)
class _Candidate:
    budget_bps: float
    options: tuple[int, ...]
    needed: Floats  # [services]
    on_time: Floats  # [services]
    utility: Floats  # [services] expected
    score: float  # expected utility, less the cost of changes


class Sharer:
    """Makes plans for one table. Keeps the knapsacks, so that what has not changed is not solved again."""

    def __init__(self, table: Table, config: AllocatorConfig) -> None:
        self._table, self._config = table, config
        self._services = np.arange(len(table.services))
        self._floors = np.array([service.floor.accuracy for service in table.services])
        accuracy = padded([[option.accuracy for option in service.options] for service in table.services], -1.0)
        self._accuracy = np.column_stack((accuracy, self._floors))  # the floor's is the last column, since FLOOR is -1
        self._targets = np.array([service.target for service in table.services])
        # A frame every 1/rate_hz: where its SLO is longer than that, deadlines alone would let the queue grow.
        self._steady_bps = padded(
            [[8 * service.rate_hz * option.bytes.mean for option in service.options] for service in table.services],
            math.inf,
        )
        counts = np.array([[len(service.options)] for service in table.services])
        self._options = np.minimum(np.arange(self._accuracy.shape[1] - 1), counts - 1)  # past the last: the last
        self._bits = padded([[8 * option.bytes.mean for option in each.options] for each in table.services], math.inf)
        own_ms = [[option.pre_ms.mean + option.exec_ms.mean for option in each.options] for each in table.services]
        self._left_ms = np.array([[service.slo_ms] for service in table.services]) - padded(own_ms, math.inf)
        self._chances_of: Needs | None = None
        self._known_chances = (np.zeros(0), np.zeros(0))
        self._knapsack = Knapsack(1, 1.0)
        self._probes = Knapsack(1, 1.0)

    def share(self, now: Now) -> Shared:
        """The best plan for what is known of the link, which must be valid and up."""
        rates = np.minimum(now.link.rates_bps, self._config.max_mbps * 1e6)
        free = rates * _left_of_period(now.link, self._config)
        free[free < 1.0] = 0.0  # less than a bit a second is nothing
        needed = np.maximum(now.needs.needed_bps, self._steady_bps)
        best = max(self._candidates(now, needed, free), key=lambda candidate: candidate.score)
        probes, probe_bps = self._probe(now, best, float(free[MEDIAN]))
        return self._grants(now, needed, best, probes, probe_bps)

    def _candidates(self, now: Now, needed: Floats, free: Floats) -> list[_Candidate]:
        budgets = free[: risky(self._config.risk)].tolist()
        self._knapsack = _reaching(self._knapsack, budgets[-1], CELLS, self._config.grid_kbps * 1e3)
        self._knapsack.solve(self._choices(now, needed))
        # Of the same options, the largest budget has the largest margin.
        found = {self._knapsack.choice(budget): budget for budget in budgets}
        kept = float(free[risky(self._config.keep_risk) - 1])
        if now.current not in found and self._need(needed, np.array(now.current)).sum() <= kept:
            found[now.current] = kept
        return self._weighed(now, needed, free, found)

    def _need(self, needed: Floats, chosen: NDArray[np.intp]) -> Floats:
        return np.where(chosen == FLOOR, 0.0, needed[self._services, chosen])

    def _choices(self, now: Now, needed: Floats) -> Choices:
        """What a change costs is part of the values; what is held is out of reach."""
        at, held = np.array(now.current), np.array(now.held)
        moving = (now.moving * now.weights)[:, None]
        expected = self._floors[:, None] + self._targets[:, None] * (self._accuracy - self._floors[:, None])
        values = now.weights[:, None] * expected - moving
        values[self._services, at] += moving[:, 0]
        raised = self._accuracy[:, :-1] > self._accuracy[self._services, at][:, None]
        costs = np.where(held[:, None] & raised, np.inf, needed)
        return Choices(values[:, FLOOR].copy(), values[:, :-1], costs)

    def _weighed(
        self, now: Now, needed: Floats, free: Floats, budget_of: dict[tuple[int, ...], float]
    ) -> list[_Candidate]:
        """What options are worth with their budgets."""
        options, budgets = list(budget_of), list(budget_of.values())
        chosen = np.array(options)  # [candidates, services], as all below
        own = self._need(needed, chosen)
        total = own.sum(1)
        some = total > 0
        rates = np.minimum(np.concatenate(([TAIL * free[0]], free)), np.array(budgets)[:, None])
        each = own[:, :, None] * (rates / np.where(some, total, 1.0)[:, None])[:, None, :]
        on_time = now.needs.on_time(self._services[:, None], chosen[:, :, None], each) @ SHARES
        on_time[~some] = 1.0
        utility = self._utility(now, chosen, on_time)
        moved = chosen != np.array(now.current)
        score = utility.sum(1) - (now.moving * now.weights * moved).sum(1)
        return [_Candidate(*each) for each in zip(budgets, options, own, on_time, utility, score.tolist(), strict=True)]

    def _utility(self, now: Now, chosen: NDArray[np.intp], on_time: Floats) -> Floats:
        gain = self._accuracy[self._services, chosen] - self._floors
        worth: Floats = now.weights * (self._floors + on_time * gain)
        return worth

    def _probe(self, now: Now, plan: _Candidate, expected_bps: float) -> tuple[list[int], Floats]:
        """For each service the option that is worth most beside the plan within what is left over, and its rate.

        A probe that comes late does no harm, so it need not keep the target: an option may be had at several rates,
        the better the surer.
        """
        left = self._config.probe_share * (expected_bps - float(plan.needed.sum()))
        chosen = np.array(plan.options)
        gain = now.weights[:, None] * (self._accuracy[:, :-1] - self._accuracy[self._services, chosen][:, None])
        usual, in_time = self._chances(now)
        costs = np.where(gain[:, :, None] > 0, usual, np.inf).reshape(len(chosen), -1)
        values = (gain[:, :, None] * in_time).reshape(len(chosen), -1)
        found = np.full(len(chosen), FLOOR)
        if left > 0:
            self._probes = _reaching(self._probes, left, PROBE_CELLS, np.inf)
            self._probes.solve(Choices(np.zeros(len(gain)), values, costs))
            found = np.array(self._probes.choice(left))
        if self._config.probe_share > 0 and (found == FLOOR).all() and np.isfinite(costs).any():
            # Nothing better fits what is known. What is known was learnt with less: so the most useful is tried.
            service, column = np.unravel_index(np.argmax(values / costs), values.shape)
            found[service] = column
        rates = np.where(found == FLOOR, 0.0, costs[self._services, found])
        return (found // len(SURER)).tolist(), rates  # FLOOR, -1, stays what it is

    def _chances(self, now: Now) -> tuple[Floats, Floats]:
        """Rates that a probe may be given [services, options, SURER], and how likely it is in time at each."""
        if self._chances_of is not now.needs:
            left_ms = self._left_ms - math.ceil(now.link.rtts_ms[0])
            usual = np.full(left_ms.shape, np.inf)
            np.divide(self._bits * 1e3, left_ms, out=usual, where=left_ms > 0)
            rates = np.maximum(usual, self._steady_bps)[:, :, None] * SURER
            in_time = now.needs.on_time(self._services[:, None, None], self._options[:, :, None], rates)
            self._chances_of, self._known_chances = now.needs, (rates, np.where(np.isfinite(rates), in_time, 0.0))
        return self._known_chances

    def _grants(self, now: Now, needed: Floats, plan: _Candidate, probes: list[int], probe_bps: Floats) -> Shared:
        total = float(plan.needed.sum())
        margin = plan.budget_bps / total if total > 0 else 1.0
        columns = zip(
            self._table.services,
            plan.options,
            (plan.needed * margin).tolist(),
            plan.on_time.tolist(),
            plan.utility.tolist(),
            probes,
            probe_bps.tolist(),
            self._whys(now, needed, plan),
            strict=True,
        )
        grants = tuple(Grant(service.name, *rest) for service, *rest in columns)
        return Shared(plan.budget_bps, grants, float(plan.utility.sum()))

    def _whys(self, now: Now, needed: Floats, plan: _Candidate) -> Iterator[str]:
        """Why each service has no better option."""
        running = self._accuracy[self._services, np.array(plan.options)]
        better = self._accuracy[:, :-1] > running[:, None]
        cheapest = np.where(better, needed, np.inf).min(1)
        for service, any_, bps, held in zip(
            self._table.services, better.any(1).tolist(), cheapest.tolist(), now.held, strict=True
        ):
            if not any_:
                yield "no option is better"
            elif math.isinf(bps):
                yield f"no better option meets {service.slo_ms:g} ms, however fast the link"
            else:
                yield (
                    "held: it was lowered, or the link came, just now"
                    if held
                    else f"a better one needs {bps / 1e6:.2f} Mbit/s"
                )


def risky(risk: float) -> int:
    """How many of LEVELS a budget may be taken from: those within the risk, and the most careful one in any case."""
    return max(1, bisect_right(LEVELS, risk + 1e-9))


def _left_of_period(link: LinkState, config: AllocatorConfig) -> float:
    """The share of the next period that is not spent on what our queue in the network holds; half of it at least."""
    return max(0.5, 1.0 - link.queue_ms / config.period_ms)


def _reaching(knapsack: Knapsack, rate_bps: float, cells: int, grain_bps: float) -> Knapsack:
    """One whose grid reaches the rate, and is not much coarser than the rate wants."""
    reach = knapsack.cells * knapsack.grain
    rate_bps = max(rate_bps, LEAST_BPS)
    if rate_bps <= reach <= ROOM**3 * rate_bps:
        return knapsack
    grain = min(grain_bps, ROOM * rate_bps / cells)
    return Knapsack(max(cells, math.ceil(ROOM * rate_bps / grain)), grain)
