"""The multiple-choice knapsack of TURBO (NINeS 2026), solved exactly on a grid.

Each service takes its floor, which costs nothing, or one of its options; the sum of the costs keeps to the budget and
the sum of the values is the greatest there is. By dynamic programming over the services,

    best[i][b] = max(best[i-1][b] + floor_i,  max_j best[i-1][b - cost_ij] + value_ij),    b = 0 .. cells

where costs are whole cells of the grid, rounded up, so that what fits on the grid fits the link. One run answers every
budget up to the grid's end, so a change of the link is a look into the last row. Where a service's costs and values
are as they were, so is its row, and only the rows from the first changed service on are computed again.

The price of the grid: each service may be charged one grain too much. `exact on the grid` is what tests hold against
HiGHS; the gap to the continuous problem is measured by `skyfog bench uplink_solve`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyfog_uplink.policy.model import FLOOR

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choices:
    """What one service may choose: its floor at no cost, or option j at costs[j]; an infinite cost is never chosen."""

    floor: float
    values: tuple[float, ...]
    costs: tuple[float, ...]  # same unit as the grain and the budget

    def __post_init__(self) -> None:
        if len(self.values) != len(self.costs):
            raise ValueError(f"{len(self.values)} values and {len(self.costs)} costs")
        if not all(math.isfinite(value) for value in (self.floor, *self.values)):
            raise ValueError(f"a value is not finite: floor {self.floor}, options {self.values}")
        if not all(cost >= 0 for cost in self.costs):  # false for NaN too
            raise ValueError(f"a cost is negative or not a number: {self.costs}")


@dataclass(frozen=True, slots=True)
class _Step:
    """An option that some budget may want: dearer ones are better."""

    option: int
    cells: int
    value: float


class Knapsack:
    """The best choice for every budget from 0 to `cells` * `grain`."""

    def __init__(self, cells: int, grain: float) -> None:
        assert cells >= 1
        assert 0 < grain < math.inf
        self.cells, self.grain = cells, grain
        self._given: tuple[Choices, ...] = ()
        self._steps: list[list[_Step]] = []
        self._best: Floats = np.zeros((1, cells + 1))
        self._spare: Floats = np.empty(cells + 1)

    def solve(self, services: Sequence[Choices]) -> int:
        """Answer for these services from now on. Returns for how many a row had to be computed."""
        same = 0
        for before, now in zip(self._given, services, strict=False):
            if before is not now and before != now:
                break
            same += 1
        if len(services) + 1 > len(self._best):
            grown = np.zeros((len(services) + 1, self.cells + 1))
            grown[: len(self._best)] = self._best
            self._best = grown
        del self._steps[same:]
        for at in range(same, len(services)):
            self._steps.append(self._staircase(services[at]))
            self._fill(at, services[at].floor)
        self._given = tuple(services)
        return len(services) - same

    def value(self, budget: float) -> float:
        """Of the best choice within the budget."""
        return float(self._best[len(self._given), self._cell(budget)])

    def choice(self, budget: float) -> tuple[int, ...]:
        """An option or FLOOR for each service; the sum of their costs is within the budget. Of equals, the cheapest."""
        at = self._cell(budget)
        chosen = [FLOOR] * len(self._given)
        for service in range(len(self._given) - 1, -1, -1):
            here, before = self._best[service + 1], self._best[service]
            if before[at] + self._given[service].floor == here[at]:
                continue
            for step in self._steps[service]:
                # The same sum of the same two numbers as in `_fill`: equal to the last bit.
                if step.cells <= at and before[at - step.cells] + step.value == here[at]:
                    chosen[service] = step.option
                    at -= step.cells
                    break
            else:
                raise AssertionError(f"no choice of service {service} gives its row's value")
        return tuple(chosen)

    def next_budget(self, budget: float) -> float | None:
        """The least budget that buys more than this one; None where the grid ends before."""
        row = self._best[len(self._given)]
        at = int(np.searchsorted(row, row[self._cell(budget)], side="right"))
        if at > self.cells:
            return None
        found = at * self.grain
        return found if self._cell(found) == at else math.nextafter(found, math.inf)

    def _cell(self, budget: float) -> int:
        if not budget >= 0:
            raise ValueError(f"budget {budget}: negative or not a number")
        return int(min(budget // self.grain, self.cells))

    def _staircase(self, choices: Choices) -> list[_Step]:
        """Options within the grid, without those for which another is as good and no dearer."""
        steps = [
            _Step(option, math.ceil(cost / self.grain), value)
            for option, (cost, value) in enumerate(zip(choices.costs, choices.values, strict=True))
            if cost <= self.cells * self.grain
        ]
        steps.sort(key=lambda step: (step.cells, -step.value))
        kept, best = [], choices.floor
        for step in steps:
            if step.value > best and step.cells <= self.cells:
                kept.append(step)
                best = step.value
        return kept

    def _fill(self, service: int, floor: float) -> None:
        before, row = self._best[service], self._best[service + 1]
        np.add(before, floor, out=row)
        for step in self._steps[service]:
            room = self.cells + 1 - step.cells
            spare = self._spare[:room]
            np.add(before[:room], step.value, out=spare)
            np.maximum(row[step.cells :], spare, out=row[step.cells :])
