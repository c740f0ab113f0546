"""One plan: which option for each service at what rate, when the link is known by quantiles.

Candidates are budgets: the quantiles of the link's rate up to `risk`. For each the knapsack says the best options,
each at its needed rate (formulate.py), which keeps the service's target as long as the link delivers the budget. What
is left of the budget is spread in proportion, so that all services have the same margin. A link of rate R that is
slower than what is granted is shared in proportion too: earliest deadline first meets every deadline that such a
split meets, so the probability that is computed here is a lower bound of what the shaper reaches:

    P_i = E_R[ on_time_i(needed_i * min(budget, R) / needed) ],    needed = sum of needed_i

The plan is the candidate with the greatest sum of weight_i * (floor_i + P_i * (accuracy_i - floor_i)): a late answer is
worth the floor's, which is there anyway. Changing a service costs `switch_cost` of its weight, in the knapsack itself.

What the link delivers in the median beyond what is needed goes, by `probe_share`, to probes: a second knapsack over
what each better option would add, so that what is learnt of the link is learnt with frames that somebody wants.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyfog_core.config.uplink import AllocatorConfig
from skyfog_uplink.policy.formulate import Needs
from skyfog_uplink.policy.link import LEVELS, LinkState
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Grant
from skyfog_uplink.policy.solve import Choices, Knapsack

Floats = NDArray[np.float64]

CELLS = 1_000  # of the grid at least, over the rates that are planned with
PROBE_CELLS = 256
ROOM = 1.25  # the grid ends at this much more than what is asked of it now, so that it need not grow at every step
LEAST_BPS = 1e3  # what a grid reaches at least
TAIL = 0.5  # the slowest LEVELS[0] of links are taken as half as fast as the quantile that bounds them
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
    score: float  # expected utility, less the cost of changes


class Sharer:
    """Makes plans for one table. Keeps the knapsacks, so that what has not changed is not solved again."""

    def __init__(self, table: Table, config: AllocatorConfig) -> None:
        self._table, self._config = table, config
        self._services = np.arange(len(table.services))
        widest = max(len(service.options) for service in table.services)
        self._floors = np.array([service.floor.accuracy for service in table.services])
        self._accuracy = np.full((len(table.services), widest + 1), -1.0)  # the last column is the floor's: FLOOR is -1
        for row, service in zip(self._accuracy, table.services, strict=True):
            row[: len(service.options)] = [option.accuracy for option in service.options]
            row[FLOOR] = service.floor.accuracy
        self._targets = np.array([service.target for service in table.services])
        # A frame every 1/rate_hz: where its SLO is longer than that, deadlines alone would let the queue grow.
        self._steady_bps = np.full((len(table.services), widest), np.inf)
        for row, service in zip(self._steady_bps, table.services, strict=True):
            row[: len(service.options)] = [8 * service.rate_hz * option.bytes.mean for option in service.options]
        self._knapsack = Knapsack(1, 1.0)
        self._probes = Knapsack(1, 1.0)

    def share(self, now: Now) -> Shared:
        """The best plan for what is known of the link, which must be valid and up."""
        rates = np.minimum(now.link.rates_bps, self._config.max_mbps * 1e6)
        free = rates * _left_of_period(now.link, self._config)
        free[free < 1.0] = 0.0  # less than a bit a second is nothing
        needed = np.maximum(now.needs.needed_bps, self._steady_bps)
        best = max(self._candidates(now, needed, free), key=lambda candidate: candidate.score)
        probes = self._probe(now, needed, best, float(free[MEDIAN]))
        return self._grants(now, best, probes)

    def _candidates(self, now: Now, needed: Floats, free: Floats) -> list[_Candidate]:
        budgets = free[: risky(self._config.risk)]
        self._knapsack = _reaching(self._knapsack, float(budgets[-1]), CELLS, self._config.grid_kbps * 1e3)
        self._knapsack.solve(self._choices(now, needed))
        found: list[_Candidate] = []
        for budget in budgets:
            options = self._knapsack.choice(float(budget))
            found.append(self._candidate(now, needed, free, float(budget), options))
        return found

    def _choices(self, now: Now, needed: Floats) -> list[Choices]:
        """What a change costs is part of the values; what is held is out of reach."""
        moving = self._config.switch_cost * now.weights
        at = np.array(now.current)
        held = np.array(now.held)
        gain = self._accuracy - self._floors[:, None]
        values = now.weights[:, None] * (self._floors[:, None] + self._targets[:, None] * gain) - moving[:, None]
        values[:, FLOOR] = now.weights * self._floors - moving
        values[self._services, at] += moving
        raised = self._accuracy[:, :-1] > self._accuracy[self._services, at][:, None]
        costs = np.where(held[:, None] & raised, np.inf, needed)
        return [
            Choices(float(row[FLOOR]), tuple(row[: len(service.options)]), tuple(cost[: len(service.options)]))
            for row, cost, service in zip(values.tolist(), costs.tolist(), self._table.services, strict=True)
        ]

    def _candidate(self, now: Now, needed: Floats, free: Floats, budget: float, options: tuple[int, ...]) -> _Candidate:
        chosen = np.array(options)
        offloaded = chosen != FLOOR
        own = np.where(offloaded, needed[self._services, np.where(offloaded, chosen, 0)], 0.0)
        on_time = np.ones(len(options))
        total = float(own.sum())
        if total > 0:
            rates = np.minimum(np.concatenate(([TAIL * free[0]], free)), budget)
            each = own[:, None] * (rates / total)[None, :]
            on_time = now.needs.on_time(self._services[:, None], chosen[:, None], each) @ SHARES
        accuracy = self._accuracy[self._services, chosen]
        utility = now.weights * (self._floors + on_time * (accuracy - self._floors))
        moved = chosen != np.array(now.current)
        score = float(utility.sum() - self._config.switch_cost * (now.weights * moved).sum())
        return _Candidate(budget, options, own, on_time, score)

    def _probe(self, now: Now, needed: Floats, plan: _Candidate, expected_bps: float) -> tuple[int, ...]:
        """For each service the option that is worth most beside the plan, within what is left over."""
        left = self._config.probe_share * (expected_bps - float(plan.needed.sum()))
        nothing = (FLOOR,) * len(plan.options)
        if left <= 0:
            return nothing
        running = self._accuracy[self._services, np.array(plan.options)]
        gain = now.weights[:, None] * (self._accuracy[:, :-1] - running[:, None])
        costs = np.where(gain > 0, needed, np.inf)
        self._probes = _reaching(self._probes, left, PROBE_CELLS, np.inf)
        self._probes.solve(
            [
                Choices(0.0, tuple(row[: len(service.options)]), tuple(cost[: len(service.options)]))
                for row, cost, service in zip(gain.tolist(), costs.tolist(), self._table.services, strict=True)
            ]
        )
        return self._probes.choice(left)

    def _grants(self, now: Now, plan: _Candidate, probes: Sequence[int]) -> Shared:
        total = float(plan.needed.sum())
        margin = plan.budget_bps / total if total > 0 else 1.0
        grants = []
        for at, service in enumerate(self._table.services):
            option, probe = plan.options[at], probes[at]
            worth = float(now.weights[at])
            gain = service.accuracy(option) - service.floor.accuracy
            grants.append(
                Grant(
                    service=service.name,
                    option=option,
                    rate_bps=float(plan.needed[at]) * margin,
                    on_time=float(plan.on_time[at]),
                    utility=worth * (service.floor.accuracy + float(plan.on_time[at]) * gain),
                    probe=probe,
                    probe_bps=float(self._rate(now, at, probe)),
                    why=self._why(now, at, option),
                )
            )
        return Shared(plan.budget_bps, tuple(grants), sum(grant.utility for grant in grants))

    def _rate(self, now: Now, service: int, option: int) -> float:
        if option == FLOOR:
            return 0.0
        return float(max(now.needs.needed_bps[service, option], self._steady_bps[service, option]))

    def _why(self, now: Now, at: int, option: int) -> str:
        options = range(len(self._table.services[at].options))
        better = [other for other in options if self._accuracy[at, other] > self._accuracy[at, option]]
        if not better:
            return "no option is better"
        needed = min(self._rate(now, at, other) for other in better)
        if np.isinf(needed):
            return f"no better option meets {self._table.services[at].slo_ms:g} ms, however fast the link"
        if now.held[at]:
            return "lowered just now: held"
        return f"a better one needs {needed / 1e6:.2f} Mbit/s"


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
