"""What is measured of a market: to fit the generator to recorded ones, and to say in a report what was replayed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median

from skyfog_core.units import S
from skyfog_sim.market import MarketTrace, Steps

TICK_NS = 300 * S
DAY_NS = 86_400 * S
HOUR_NS = 3_600 * S


@dataclass(frozen=True, slots=True)
class ZoneStats:
    """One zone. An episode of `up` has machines to be had, one of `down` has none."""

    zone: str
    available: float  # share of time with any
    between: float  # share of time with some, and fewer than the most ever
    outages_per_day: float
    up_median_h: float
    up_mean_h: float
    down_median_h: float
    down_mean_h: float


def zone_stats(zone: str, capacity: Steps, length_ns: int) -> ZoneStats:
    """Measure one zone; episodes cut off by the ends of the trace count as they are."""
    spans = list(zip(capacity.times_ns, [*capacity.times_ns[1:], length_ns], capacity.values, strict=True))
    most = max(capacity.values)
    episodes: list[tuple[bool, int]] = []
    for start, end, value in spans:
        is_up = value > 0
        if episodes and episodes[-1][0] == is_up:
            episodes[-1] = is_up, episodes[-1][1] + end - start
        else:
            episodes.append((is_up, end - start))
    ups = [length / HOUR_NS for is_up, length in episodes if is_up] or [0.0]
    downs = [length / HOUR_NS for is_up, length in episodes if not is_up] or [0.0]
    return ZoneStats(
        zone,
        sum(end - start for start, end, value in spans if value > 0) / length_ns,
        sum(end - start for start, end, value in spans if 0 < value < most) / length_ns,
        sum(not is_up for is_up, _ in episodes) / (length_ns / DAY_NS),
        median(ups),
        fmean(ups),
        median(downs),
        fmean(downs),
    )


def stats(market: MarketTrace) -> list[ZoneStats]:
    """All zones of a market."""
    return [zone_stats(zone.zone.name, zone.spot_capacity, market.length_ns) for zone in market.zones]


def together(market: MarketTrace, same_region: bool) -> float | None:
    """Mean correlation of "has machines" over pairs of zones of one region, or of two; None where there is no pair."""
    series = {
        zone.zone: [float(zone.spot_capacity.at(at) > 0) for at in range(0, market.length_ns, TICK_NS)]
        for zone in market.zones
    }
    found = [
        _correlation(series[one], series[other])
        for one, other in combinations(series, 2)
        if (one.region == other.region) == same_region
    ]
    known = [value for value in found if value is not None]
    return fmean(known) if known else None


def _correlation(one: list[float], other: list[float]) -> float | None:
    """Pearson's; None where one never changes."""
    mean_one, mean_other = fmean(one), fmean(other)
    var_one, var_other = mean_one * (1 - mean_one), mean_other * (1 - mean_other)
    if var_one <= 0 or var_other <= 0:
        return None
    both = fmean(a * b for a, b in zip(one, other, strict=True))
    return float((both - mean_one * mean_other) / (var_one * var_other) ** 0.5)
