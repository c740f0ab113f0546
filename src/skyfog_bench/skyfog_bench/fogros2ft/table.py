"""From played cells to rows and goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skyfog_bench.fogros2ft.conditions import BOTH, Condition
from skyfog_bench.fogros2ft.prices import MACHINE, PRICES, reserved_usd, used_usd
from skyfog_bench.fogros2ft.record import DETECTION, PLANNING, SEGMENTATION
from skyfog_bench.fogros2ft.replay import EXTRA_LOAD, Played
from skyfog_bench.measure import Figure, figure, quantile
from skyfog_bench.report import Goal, at_least, at_most
from skyfog_core.config.router import PolicyName

ONE = "one replica"
FASTER = {DETECTION: 2.0, SEGMENTATION: 2.1, PLANNING: 5.53}  # FogROS2-FT, abstract
CHEAPER = 2.2
NEAR_BROADCAST = 1.1


@dataclass(frozen=True, slots=True)
class Cell:
    """One row: a scenario in a condition, under a policy with so many replicas. One of each list a seed."""

    scenario: str
    condition: Condition
    policy: PolicyName
    replicas: int
    pace_s: float
    played: tuple[Played, ...]
    least_ms: tuple[tuple[float, ...], ...]  # the least over the replicas, of the same requests

    @property
    def title(self) -> str:
        return ONE if self.replicas == 1 else self.policy

    def p(self, q: float) -> list[float]:
        """A quantile of the latency, of each seed."""
        return [quantile(one.latencies_ms, q) for one in self.played]

    @property
    def least_p99(self) -> list[float]:
        return [quantile(one, 0.99) for one in self.least_ms]

    @property
    def copies(self) -> list[float]:
        return [one.copies for one in self.played]

    @property
    def busy_s(self) -> list[float]:
        return [one.busy_s for one in self.played]


Key = tuple[str, str, str, int]  # scenario, condition, policy, replicas


class Cells:
    """All cells of a run."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self._by_key: Mapping[Key, Cell] = {(c.scenario, c.condition.name, c.title, c.replicas): c for c in cells}

    def find(self, scenario: str, title: str, replicas: int, condition: Condition = BOTH) -> Cell:
        return self._by_key[scenario, condition.name, title, replicas]

    def single(self, cell: Cell) -> Cell:
        """The one replica that a cell is compared with."""
        return self.find(cell.scenario, ONE, 1, cell.condition)

    def faster(self, cell: Cell) -> Figure:
        """How many times the one replica's P99 the cell's is below it; seeds are paired."""
        return times(self.single(cell).p(0.99), cell.p(0.99))

    def cheaper(self, cell: Cell) -> Figure:
        """How many times less the cell costs on spot machines than the one replica on demand, paid for by use."""
        price = PRICES[MACHINE]
        mine = [used_usd(price.spot, s) for s in cell.busy_s]
        return times([used_usd(price.on_demand, s) for s in self.single(cell).busy_s], mine)


def times(peer: Sequence[float], mine: Sequence[float]) -> Figure:
    """peer / mine, seed by seed: median and quartiles."""
    return figure([a / b for a, b in zip(peer, mine, strict=True)])


def latency_row(cells: Cells, cell: Cell) -> dict[str, Any]:
    """Medians over seeds, and the quartiles of the P99."""
    p99, faster = figure(cell.p(0.99)), cells.faster(cell)
    return {
        "scenario": cell.scenario,
        "condition": cell.condition.name,
        "policy": cell.title,
        "replicas": cell.replicas,
        "p50_ms": figure(cell.p(0.5)).value,
        "p99_ms": p99.value,
        "low_ms": p99.low,
        "high_ms": p99.high,
        "limit_p99_ms": figure(cell.least_p99).value,
        "times_better": faster.value,
        "extra_copies": figure(cell.copies).value,
    }


def cost_row(cells: Cells, cell: Cell) -> dict[str, Any]:
    """US cents a thousand requests."""
    price, busy_s = PRICES[MACHINE], figure(cell.busy_s).value
    one = reserved_usd(1, price.on_demand, cell.pace_s)
    spot = reserved_usd(cell.replicas, price.spot, cell.pace_s)
    return {
        "cents_per_1000": cell.scenario,
        "policy": cell.title,
        "replicas": cell.replicas,
        "busy_ms": busy_s * 1e3,
        "used_on_demand": 100 * used_usd(price.on_demand, busy_s),
        "used_spot": 100 * used_usd(price.spot, busy_s),
        "times_cheaper": cells.cheaper(cell).value,
        "all_time_on_demand": 100 * reserved_usd(cell.replicas, price.on_demand, cell.pace_s),
        "all_time_spot": 100 * spot,
        "all_time_times_cheaper": one / spot,
    }


def price_rows() -> list[dict[str, Any]]:
    """What the costs are made of, USD an hour."""
    return [
        {
            "usd_per_hour": p.machine,
            "vcpus": p.vcpus,
            "on_demand": f"{p.on_demand:.4f}",
            "spot": f"{p.spot:.4f}",
            "on_demand_from": p.on_demand_source,
            "spot_from": p.spot_source,
        }
        for p in PRICES.values()
    ]


def goals(cells: Cells, most: int) -> list[Goal]:
    """Against the paper's figures, and `slo` against broadcast."""
    found: list[Goal] = []
    for scenario, limit in FASTER.items():
        for policy in ("broadcast", "slo"):
            cell = cells.find(scenario, policy, most)
            found.append(at_least(f"{scenario}: P99 of one replica / {policy} over {most}", limit, cells.faster(cell)))
    found += _cost_goals(cells, most)
    for scenario in FASTER:
        for replicas in range(2, most + 1):
            slo, broadcast = (cells.find(scenario, policy, replicas) for policy in ("slo", "broadcast"))
            name = f"{scenario}, {replicas} replicas: slo / broadcast"
            found.append(at_most(f"{name}, P99", NEAR_BROADCAST, times(slo.p(0.99), broadcast.p(0.99))))
            found.append(at_most(f"{name}, extra copies", EXTRA_LOAD, times(slo.copies, broadcast.copies)))
    failed = sum(one.failed for cell in cells.cells for one in cell.played)
    return [*found, Goal("requests failed", 0, failed)]


def _cost_goals(cells: Cells, most: int) -> list[Goal]:
    """The same machine type on both sides: one replica on demand against several on the spot market."""
    price = PRICES[MACHINE]
    name = f"{PLANNING}: one {MACHINE} on demand / "
    found = [
        at_least(f"{name}{n} spot ones, {policy}, paid by use", CHEAPER, cells.cheaper(cells.find(PLANNING, policy, n)))
        for n in sorted({2, most})
        for policy in ("broadcast", "slo")
    ]
    fewest = Goal(f"{name}2 spot ones, always paid", CHEAPER, price.discount / 2, at_least=True)
    return [*found, fewest]
