"""What a cloud's markets do over time: how many machines a zone has, and what they cost. The future is in it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from skyfog_pool.policy.market import Prices, Zone


@dataclass(frozen=True, slots=True)
class Steps:
    """A value that changes in steps: `values[i]` from `times_ns[i]` on. The first time is 0."""

    times_ns: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times_ns) != len(self.values) or not self.values or self.times_ns[0] != 0:
            raise ValueError("steps begin at 0 and have a value for each time")
        if any(later <= sooner for sooner, later in pairwise(self.times_ns)):
            raise ValueError("steps are in order of time")

    def at(self, time_ns: int) -> float:
        """The value then."""
        return self.values[max(0, bisect_right(self.times_ns, time_ns) - 1)]

    def points(self) -> Iterator[tuple[int, float]]:
        """Time, and the value from then on."""
        yield from zip(self.times_ns, self.values, strict=True)

    def changes(self) -> Iterator[tuple[int, float, float]]:
        """Time, value before, value from then on."""
        for i in range(1, len(self.values)):
            yield self.times_ns[i], self.values[i - 1], self.values[i]

    def integral(self, from_ns: int, to_ns: int) -> float:
        """The value added up over a span, in value times nanoseconds."""
        total, i = 0.0, max(0, bisect_right(self.times_ns, from_ns) - 1)
        while from_ns < to_ns:
            end_ns = min(to_ns, self.times_ns[i + 1] if i + 1 < len(self.times_ns) else to_ns)
            total += self.values[i] * (end_ns - from_ns)
            from_ns, i = end_ns, i + 1
        return total

    def clipped(self, from_ns: int, to_ns: int) -> Steps:
        """The part from `from_ns` to `to_ns`, which then begins at 0."""
        inside = [(at - from_ns, value) for at, _, value in self.changes() if from_ns < at < to_ns]
        return Steps((0, *(at for at, _ in inside)), (self.at(from_ns), *(value for _, value in inside)))


def steps_of(points: Iterable[tuple[int, float]]) -> Steps:
    """Times and values in order, without what changes nothing."""
    kept: list[tuple[int, float]] = []
    for at, value in points:
        if not kept or kept[-1][1] != value:
            kept.append((at, value))
    return Steps(tuple(at for at, _ in kept), tuple(value for _, value in kept))


def steps(samples: Sequence[float], gap_ns: int) -> Steps:
    """Samples taken each `gap_ns`, as steps."""
    return steps_of((i * gap_ns, value) for i, value in enumerate(samples))


def constant(value: float) -> Steps:
    """Steps without a step."""
    return Steps((0,), (value,))


@dataclass(frozen=True, slots=True)
class ZoneMarket:
    """One kind of machine in one zone."""

    zone: Zone
    spot_capacity: Steps  # machines of ours that can run there at once
    spot_price: Steps  # USD an hour
    on_demand_price: float  # USD an hour
    on_demand_capacity: Steps | None = None  # None: as many as wanted

    def prices_at(self, time_ns: int) -> Prices:
        return Prices(self.spot_price.at(time_ns), self.on_demand_price)


@dataclass(frozen=True, slots=True)
class MarketTrace:
    """All zones of a pool from 0 to `length_ns`."""

    name: str
    zones: tuple[ZoneMarket, ...]
    length_ns: int

    def __post_init__(self) -> None:
        names = [market.zone.name for market in self.zones]
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"market {self.name!r}: zones {names} are not at least one, each once")

    def of(self, zone: str) -> ZoneMarket:
        return next(market for market in self.zones if market.zone.name == zone)

    def cheapest_on_demand(self) -> float:
        """USD an hour."""
        return min(market.on_demand_price for market in self.zones)

    def part(self, from_ns: int, to_ns: int, name: str = "") -> MarketTrace:
        """A span of it, beginning at 0."""
        to_ns = min(to_ns, self.length_ns)
        zones = tuple(
            replace(
                market,
                spot_capacity=market.spot_capacity.clipped(from_ns, to_ns),
                spot_price=market.spot_price.clipped(from_ns, to_ns),
                on_demand_capacity=market.on_demand_capacity and market.on_demand_capacity.clipped(from_ns, to_ns),
            )
            for market in self.zones
        )
        return MarketTrace(name or self.name, zones, to_ns - from_ns)

    def price_times(self) -> list[int]:
        """When any price changes, 0 included."""
        return sorted({at for market in self.zones for at in market.spot_price.times_ns if at < self.length_ns})


def zones_of(markets: Iterable[ZoneMarket]) -> list[Zone]:
    """What policies may know of them."""
    return [market.zone for market in markets]
