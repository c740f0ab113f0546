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
    """What each service may choose: its floor at no cost, or option j at costs[j].

    An infinite cost is never chosen, whatever its value; rows shorter than the longest end in such. Raises ValueError
    for negative costs and for values that are not finite.
    """

    floors: Floats  # [services]
    values: Floats  # [services, options]
    costs: Floats  # [services, options] in the unit of grain and budget

    def __post_init__(self) -> None:
        if self.values.shape != self.costs.shape or self.floors.shape != self.values.shape[:1]:
            raise ValueError(f"shapes {self.floors.shape}, {self.values.shape}, {self.costs.shape} do not go together")
        if not (np.isfinite(self.floors).all() and np.isfinite(self.values[np.isfinite(self.costs)]).all()):
            raise ValueError("a value is not finite")
        if not (self.costs >= 0).all():  # false for NaN too
            raise ValueError("a cost is negative or not a number")

    def __len__(self) -> int:
        return len(self.floors)

    def same_rows(self, other: Choices) -> int:
        """How many services from the first on have the same choices in both."""
        count = min(len(self), len(other))
        if count == 0 or self.values.shape[1] != other.values.shape[1]:
            return 0
        same = (self.floors[:count] == other.floors[:count]) & (self.costs[:count] == other.costs[:count]).all(1)
        open_ = np.isinf(self.costs[:count]) | (self.values[:count] == other.values[:count])
        same &= open_.all(1)
        return count if same.all() else int(np.argmin(same))


def padded(rows: Sequence[Sequence[float]], filler: float) -> Floats:
    """[rows, longest] with `filler` behind the shorter ones."""
    full = np.full((len(rows), max(map(len, rows), default=0)), filler)
    for into, row in zip(full, rows, strict=True):
        into[: len(row)] = row
    return full


# One step of a service's staircase: option, cells, value. Each is dearer and better than the one before.
_Step = tuple[int, int, float]


class Knapsack:
    """The best choice for every budget from 0 to `cells` * `grain`."""

    def __init__(self, cells: int, grain: float) -> None:
        assert cells >= 1
        assert 0 < grain < math.inf
        self.cells, self.grain = cells, grain
        self._given = Choices(np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0)))
        self._steps: list[list[_Step]] = []
        self._best: Floats = np.zeros((1, cells + 1))
        self._spare: Floats = np.empty(cells + 1)

    def solve(self, choices: Choices) -> int:
        """Answer for these from now on; their arrays are kept. Returns for how many services a row was computed."""
        same = self._given.same_rows(choices)
        if len(choices) + 1 > len(self._best):
            grown = np.zeros((len(choices) + 1, self.cells + 1))
            grown[: len(self._best)] = self._best
            self._best = grown
        self._steps[same:] = self._staircases(choices, same)
        floors = choices.floors.tolist()
        for service in range(same, len(choices)):
            self._fill(service, floors[service])
        self._given = choices
        return len(choices) - same

    def value(self, budget: float) -> float:
        """Of the best choice within the budget."""
        return float(self._best[len(self._given), self._cell(budget)])

    def choice(self, budget: float) -> tuple[int, ...]:
        """An option or FLOOR for each service; the sum of their costs is within the budget. Of equals, the cheapest."""
        at = self._cell(budget)
        chosen = [FLOOR] * len(self._given)
        for service in range(len(self._given) - 1, -1, -1):
            here, before = self._best[service + 1], self._best[service]
            if before[at] + self._given.floors[service] == here[at]:
                continue
            for option, cells, value in self._steps[service]:
                # The same sum of the same two numbers as in `_fill`: equal to the last bit.
                if cells <= at and before[at - cells] + value == here[at]:
                    chosen[service] = option
                    at -= cells
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

    def _staircases(self, choices: Choices, first: int) -> list[list[_Step]]:
        """Of services from `first` on: options within the grid, none for which another is as good and no dearer."""
        costs, floors = choices.costs[first:], choices.floors[first:]
        within = costs <= self.cells * self.grain
        cells = np.where(within, np.ceil(np.where(within, costs, 0.0) / self.grain), self.cells + 1).astype(np.intp)
        values = np.where(cells <= self.cells, choices.values[first:], -np.inf)
        order = np.lexsort((-values, cells))  # by cells, of as many the best first
        rows = np.arange(len(floors))[:, None]
        cells, values = cells[rows, order], values[rows, order]
        before = np.maximum.accumulate(np.concatenate((floors[:, None], values), 1), 1)[:, :-1]
        kept = values > before
        steps: list[list[_Step]] = [[] for _ in floors]
        columns = (np.nonzero(kept)[0], order[kept], cells[kept], values[kept])
        for row, *step in zip(*(column.tolist() for column in columns), strict=True):
            steps[row].append(tuple(step))
        return steps

    def _fill(self, service: int, floor: float) -> None:
        before, row = self._best[service], self._best[service + 1]
        np.add(before, floor, out=row)
        for _, cells, value in self._steps[service]:
            room = self.cells + 1 - cells
            spare = self._spare[:room]
            np.add(before[:room], value, out=spare)
            np.maximum(row[cells:], spare, out=row[cells:])
