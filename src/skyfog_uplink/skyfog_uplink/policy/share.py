"""One plan: which option for each service at what rate, when the link is known by quantiles.

What an option costs. TURBO charges S/(SLO - RTT - exec) for all the time, so a camera that needs 7 Mbit/s for 20 ms
ten times a second is charged 7 Mbit/s. The shaper sends one frame after the other at the link's whole rate, earliest
deadline first; so an option costs its load, 8 S rate, and one at a time must be fast enough beside the load of others:

    sum_j load_j + max_i (needed_i - load_i) <= B          needed_i: at which it keeps its target alone (formulate.py)

With the spare m for that maximum fixed it is a knapsack of loads within B - m over the options that m suffices for;
SPARES of them are tried. It is no guarantee: frames that are ready at the same moment wait for each other, and the one
that cannot be in time any more is withheld, which costs its gain and is no miss.

Candidates are budgets: the quantiles of the link's rate up to `risk`, and what runs already up to `keep_risk`, so that
a budget that trembles moves nothing. Under a link of rate R service i has what the others' load leaves,

    P_i = E_R[ on_time_i(R - sum of the other loads) ]

and the plan is the candidate with the greatest sum of weight_i * (floor_i + P_i * (accuracy_i - floor_i)): a late
answer is worth the floor's, which is there anyway. Changing a service costs `switch_cost` of its weight, in the
knapsack itself. What is left of the budget is spread in proportion to the loads.

What the link likely delivers beyond that goes, by `probe_share`, to probes: a second knapsack over what each better
option would add, so that what is learnt of the link is learnt with frames that somebody wants.
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
SPARES = 12  # tried at most
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
    loads: Floats  # [services]
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
        self._loads = padded(
            [[8 * service.rate_hz * option.bytes.mean for option in service.options] for service in table.services],
            math.inf,
        )
        self._knapsacks = [Knapsack(1, 1.0) for _ in range(SPARES)]
        counts = np.array([[len(service.options)] for service in table.services])
        self._options = np.minimum(np.arange(self._accuracy.shape[1] - 1), counts - 1)  # past the last: the last
        self._bits = padded([[8 * option.bytes.mean for option in each.options] for each in table.services], math.inf)
        own_ms = [[option.pre_ms.mean + option.exec_ms.mean for option in each.options] for each in table.services]
        self._left_ms = np.array([[service.slo_ms] for service in table.services]) - padded(own_ms, math.inf)
        self._chances_of: Needs | None = None
        self._known_chances = (np.zeros(0), np.zeros(0))
        self._probes = Knapsack(1, 1.0)

    def share(self, now: Now) -> Shared:
        """The best plan for what is known of the link, which must be valid and up."""
        rates = np.minimum(now.link.rates_bps, self._config.max_mbps * 1e6)
        free = rates * _left_of_period(now.link, self._config)
        free[free < 1.0] = 0.0  # less than a bit a second is nothing
        needed = np.maximum(now.needs.needed_bps, self._loads)
        best = max(self._candidates(now, needed, free), key=lambda candidate: candidate.score)
        probes, probe_bps = self._probe(now, best, float(free[MEDIAN]))
        return self._grants(now, needed, best, probes, probe_bps)

    def _candidates(self, now: Now, needed: Floats, free: Floats) -> list[_Candidate]:
        budgets = free[: risky(self._config.risk)].tolist()
        found: dict[tuple[int, ...], _Candidate] = {}
        choices = self._solved(now, needed, budgets[-1])
        for budget in reversed(budgets):  # of the same options, the largest budget has the largest margin
            options = self._best(choices, budget)
            if options not in found:
                found[options] = self._candidate(now, free, budget, options)
        kept = float(free[risky(self._config.keep_risk) - 1])
        if now.current not in found and self._fits(needed, now.current, kept):
            found[now.current] = self._candidate(now, free, kept, now.current)
        return list(found.values())

    def _solved(self, now: Now, needed: Floats, budget: float) -> list[tuple[float, Knapsack]]:
        """By spare: the knapsack of the options that it suffices for."""
        values, costs = self._values(now)
        extra = np.where(np.isfinite(needed), needed, np.inf) - np.where(np.isfinite(self._loads), self._loads, 0.0)
        found = []
        for at, spare in enumerate(_spares(extra[np.isfinite(costs)], budget)):
            knapsack = self._knapsacks[at] = _reaching(self._knapsacks[at], budget, CELLS, self._config.grid_kbps * 1e3)
            knapsack.solve(Choices(values[:, FLOOR].copy(), values[:, :-1], np.where(extra <= spare, costs, np.inf)))
            found.append((spare, knapsack))
        return found

    def _best(self, solved: list[tuple[float, Knapsack]], budget: float) -> tuple[int, ...]:
        within = [(knapsack.value(budget - spare), -spare, knapsack) for spare, knapsack in solved if spare <= budget]
        if not within:
            return (FLOOR,) * len(self._floors)
        _, spare, knapsack = max(within, key=lambda one: one[:2])
        return knapsack.choice(budget + spare)

    def _fits(self, needed: Floats, options: tuple[int, ...], budget: float) -> bool:
        chosen = np.array(options)
        loads = self._load(options)
        alone = np.where(chosen == FLOOR, 0.0, needed[self._services, chosen] - loads)
        return bool(loads.sum() + alone.max() <= budget)

    def _load(self, options: tuple[int, ...]) -> Floats:
        chosen = np.array(options)
        return np.where(chosen == FLOOR, 0.0, self._loads[self._services, chosen])

    def _values(self, now: Now) -> tuple[Floats, Floats]:
        """Of each option and the floor, and costs of options. What a change costs is in it; what is held is not."""
        at, held = np.array(now.current), np.array(now.held)
        moving = (self._config.switch_cost * now.weights)[:, None]
        expected = self._floors[:, None] + self._targets[:, None] * (self._accuracy - self._floors[:, None])
        values = now.weights[:, None] * expected - moving
        values[self._services, at] += moving[:, 0]
        raised = self._accuracy[:, :-1] > self._accuracy[self._services, at][:, None]
        return values, np.where(held[:, None] & raised, np.inf, self._loads)

    def _candidate(self, now: Now, free: Floats, budget: float, options: tuple[int, ...]) -> _Candidate:
        chosen = np.array(options)
        loads = self._load(options)
        on_time = np.ones(len(options))
        total = float(loads.sum())
        if total > 0:
            rates = np.concatenate(([TAIL * free[0]], free))
            each = np.maximum(rates[None, :] - (total - loads)[:, None], 0.0)
            on_time = now.needs.on_time(self._services[:, None], chosen[:, None], each) @ SHARES
        utility = self._utility(now, chosen, on_time)
        moved = chosen != np.array(now.current)
        score = float(utility.sum() - self._config.switch_cost * (now.weights * moved).sum())
        return _Candidate(budget, options, loads, on_time, utility, score)

    def _utility(self, now: Now, chosen: NDArray[np.intp], on_time: Floats) -> Floats:
        gain = self._accuracy[self._services, chosen] - self._floors
        worth: Floats = now.weights * (self._floors + on_time * gain)
        return worth

    def _probe(self, now: Now, plan: _Candidate, expected_bps: float) -> tuple[list[int], Floats]:
        """For each service the option that is worth most beside the plan within what is left over, and its rate.

        A probe that comes late does no harm, so it need not keep the target: an option may be had at several rates,
        the better the surer. Where nothing at all seems to fit, the least is tried: of that the shaper sends the first
        chunks now and then, or nobody would ever know that the link is faster than thought.
        """
        left = self._config.probe_share * (expected_bps - float(plan.loads.sum()))
        chosen, rates = np.array(plan.options), np.zeros(len(plan.options))
        if left <= 0:
            return [FLOOR] * len(chosen), rates
        gain = now.weights[:, None] * (self._accuracy[:, :-1] - self._accuracy[self._services, chosen][:, None])
        usual, in_time = self._chances(now)
        costs = np.where(gain[:, :, None] > 0, usual, np.inf).reshape(len(chosen), -1)
        values = (gain[:, :, None] * in_time).reshape(len(chosen), -1)
        self._probes = _reaching(self._probes, left, PROBE_CELLS, np.inf)
        self._probes.solve(Choices(np.zeros(len(gain)), values, costs))
        found = np.array(self._probes.choice(left))
        if (chosen == FLOOR).all() and (found == FLOOR).all():
            found = _least(costs)
        rates = np.where(found == FLOOR, 0.0, costs[self._services, found])
        return (found // len(SURER)).tolist(), rates  # FLOOR, -1, stays what it is

    def _chances(self, now: Now) -> tuple[Floats, Floats]:
        """Rates that a probe may be given [services, options, SURER], and how likely it is in time at each."""
        if self._chances_of is not now.needs:
            left_ms = self._left_ms - math.ceil(now.link.rtts_ms[0])
            usual = np.full(left_ms.shape, np.inf)
            np.divide(self._bits * 1e3, left_ms, out=usual, where=left_ms > 0)
            rates = np.maximum(usual, self._loads)[:, :, None] * SURER
            in_time = now.needs.on_time(self._services[:, None, None], self._options[:, :, None], rates)
            self._chances_of, self._known_chances = now.needs, (rates, np.where(np.isfinite(rates), in_time, 0.0))
        return self._known_chances

    def _grants(self, now: Now, needed: Floats, plan: _Candidate, probes: list[int], probe_bps: Floats) -> Shared:
        total = float(plan.loads.sum())
        margin = plan.budget_bps / total if total > 0 else 1.0
        columns = zip(
            self._table.services,
            plan.options,
            (plan.loads * margin).tolist(),
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
                yield "lowered just now: held" if held else f"a better one needs {bps / 1e6:.2f} Mbit/s"


def _spares(extra: Floats, budget: float) -> list[float]:
    """What suffices for the first options, for some more, and so on to all that the budget allows."""
    each = np.unique(extra[extra <= budget])
    if len(each) > SPARES:
        each = each[np.linspace(0, len(each) - 1, SPARES).round().astype(int)]
    found: list[float] = each.tolist()
    return found


def _least(costs: Floats) -> NDArray[np.intp]:
    """The cheapest option of any service, for that service alone."""
    found = np.full(len(costs), FLOOR)
    service, option = np.unravel_index(int(np.argmin(costs)), costs.shape)
    if np.isfinite(costs[service, option]):
        found[service] = option
    return found


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
