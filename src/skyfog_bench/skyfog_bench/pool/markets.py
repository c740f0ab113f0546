"""The markets of `skyfog bench pool`: SkyServe's recorded ones, where they are, and generated ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from skyfog_bench.pool.prices import Prices, read_prices
from skyfog_core.units import S
from skyfog_sim.generate import MarketModel, generate
from skyfog_sim.market import MarketTrace, constant
from skyfog_sim.spot_traces import ON_DEMAND, SPOT, read_market

FOLDER = "SKYFOG_SPOT_TRACES"  # environment: where the recorded ones are; else beside the workspace
DAY_NS = 86_400 * S
AWS_1, AWS_2, AWS_3 = (
    "preemption-4-node/aws-08-03-2023",
    "availability-16-node/aws-08-27-2023",
    "availability-1-node/aws-10-26-2022",
)
PRICES = "prices-2022-05-31/2022-05.tsv.zst"


@dataclass(frozen=True, slots=True)
class Course:
    """A market, and how many replicas are wanted on it."""

    market: MarketTrace
    target: int
    recorded: bool
    note: str = ""

    @property
    def name(self) -> str:
        return self.market.name


def folder() -> Path | None:
    """Where the recorded markets are; None where they are absent."""
    workspace = Path(os.environ.get("SKYFOG_WS", "."))
    found = Path(os.environ.get(FOLDER) or workspace / ".." / "shared" / "traces" / "spot")
    return found if (found / AWS_1).is_dir() else None


def recorded(root: Path) -> Iterator[Course]:
    """All of them. Raises TraceError where one cannot be read."""
    prices = read_prices(root / PRICES) if (root / PRICES).is_file() else {}
    yield _course(root / AWS_1, None, "AWS 1", 4, prices)
    yield _course(root / AWS_2, None, "AWS 2", 4, prices)
    yield _course(root / AWS_2, None, "AWS 2, 12 replicas", 12, prices)
    for kind in ("v100_1", "v100_8", "k80_1", "k80_8"):
        yield _course(root / AWS_3, kind, f"AWS 3, {kind}", 1, prices)
    yield _as_one_kind(read_market(root / AWS_3), "AWS 3, eight zones", 3)


def generated(seed: int, count: int, days: float) -> Iterator[Course]:
    """Nine zones in three regions, a market a seed."""
    for number in range(count):
        market = generate(MarketModel(days=days), seed + number)
        yield Course(market, 4, recorded=False)


def head(course: Course, days: float) -> Course:
    """Its first days."""
    return replace(course, market=course.market.part(0, round(days * DAY_NS)))


def _course(path: Path, kind: str | None, name: str, target: int, prices: Prices) -> Course:
    market = read_market(path, kind)
    kind = kind or "v100_1"
    zones = tuple(
        replace(zone, spot_price=constant(prices.get((zone.zone.region, kind), SPOT[kind]))) for zone in market.zones
    )
    return Course(replace(market, name=name, zones=zones), target, recorded=True)


def _as_one_kind(market: MarketTrace, name: str, target: int) -> Course:
    """Eight series of one machine each, of four kinds in two zones, taken for eight zones with one kind."""
    zones = tuple(
        replace(zone, spot_price=constant(SPOT["v100_1"]), on_demand_price=ON_DEMAND["v100_1"]) for zone in market.zones
    )
    note = "eight series of four kinds of machine in two zones, taken for eight zones with one V100 each"
    return Course(replace(market, name=name, zones=zones), target, recorded=True, note=note)
