"""Spot markets drawn from a seed, with the statistics of the recorded ones, for use where those are absent.

How many machines a zone has is a latent Gaussian process, cut at two thresholds: below the lower there are none, above
the upper the zone is full, between them the count rises in equal steps. The process of a zone is

    g = sqrt(together) region + sqrt(1 - together) own,   each = sqrt(calm) slow + sqrt(1 - calm) fast

where `slow` is an Ornstein-Uhlenbeck process (hours) and `fast` one of tens of minutes, smoothed once. That makes
episodes whose lengths spread over two orders of magnitude, zones of a region that fail together, sudden falls from full
to none, and zones that are good or bad for days. Regions are independent.

Fitted by hand to SkyServe's 14 recorded zones (V100 and K80 on AWS, 2022 and 2023, github skypilot-org/spot-traces) by
the measures of `market_stats`. Median over zones, and lowest to highest; 108 generated zones of 14 days:

                              recorded               generated
    share of time with any    0.47 (0.12 to 0.89)    0.61 (0.06 to 0.99); mean 0.55 and 0.57
    some, and not full        0.04 (0.02 to 0.17)    0.06 (0.02 to 0.13); recorded: the six zones of more than one
    outages a day             4.8  (1.1 to 14.8)     4.8  (0.5 to 7.8)
    up, median and mean       0.62 h and 2.3 h       0.58 h and 2.6 h
    down, median and mean     0.46 h and 1.8 h       0.50 h and 1.8 h
    correlation in a region   0.48 (0.11 to 0.74)    0.47 (0.33 to 0.59); recorded: the same machine in two zones
    between regions           -0.47 to 0.12          0.00

Prices: since 2017 AWS moves them slowly. In the five hours of 2022-05-31 that were recorded (github
ericpauley/aws-spot-price-history), 9,100 pairs of zone and type had a price, 2 % of them a second one, apart by 0.24 %
in the median and 0.7 % rms; V100 and K80 machines stood at 0.30 to 0.40 of on demand in most zones of the USA. Here the
logarithm reverts to a level of the zone's own in steps of that size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from statistics import NormalDist

from skyfog_core.rng import stream
from skyfog_core.units import S
from skyfog_pool.policy.market import Zone
from skyfog_sim.market import MarketTrace, Steps, ZoneMarket, steps

NORMAL = NormalDist()
HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class MarketModel:
    """What markets are drawn."""

    regions: int = 3
    zones_per_region: int = 3
    days: float = 30.0
    gap_s: int = 300
    machines: int = 8  # in a zone that is full
    available: tuple[float, float] = (2.3, 1.9)  # of the Beta distribution of a zone's share of time with any
    between: float = 0.06  # share of time with some, and not full
    together: float = 0.85  # share of the latent variance that zones of a region have in common
    calm: tuple[float, float] = (0.60, 0.99)  # share of it that is slow: uniform over zones
    slow_h: float = 16.0  # time constants
    fast_h: float = 0.5
    on_demand_price: float = 3.06
    spot_level: tuple[float, float] = (0.30, 0.40)  # of on demand, uniform over zones
    price_step: float = 0.007  # of the logarithm, rms
    price_every_h: float = 12.0
    price_spread: float = 0.05  # of the logarithm around its level


def generate(model: MarketModel, seed: int) -> MarketTrace:
    """Draw a market. One seed gives one market."""
    count = round(model.days * 24 * HOUR_S / model.gap_s)
    zones: list[ZoneMarket] = []
    for region in range(model.regions):
        shared = stream(seed, "market", str(region))
        calm = shared.uniform(*model.calm)
        common = _latent(model, calm, count, shared)
        letters = "abcdefghij"[: model.zones_per_region]
        zones += [
            _zone(model, f"region-{region + 1}", letter, common, stream(seed, "market", str(region), letter))
            for letter in letters
        ]
    return MarketTrace(f"generated-{seed}", tuple(zones), count * model.gap_s * S)


def _zone(model: MarketModel, region: str, letter: str, common: list[float], random: Random) -> ZoneMarket:
    own = _latent(model, random.uniform(*model.calm), len(common), random)
    share = min(0.98, max(0.05, random.betavariate(*model.available)))
    between = min(model.between, share / 2, (1 - share))
    none_below = NORMAL.inv_cdf(1 - share)
    full_above = NORMAL.inv_cdf(min(0.999, 1 - share + between))
    ours, theirs = math.sqrt(1 - model.together), math.sqrt(model.together)
    capacity = [
        _machines(theirs * shared + ours * alone, none_below, full_above, model.machines)
        for shared, alone in zip(common, own, strict=True)
    ]
    return ZoneMarket(
        Zone(region + letter, region, "sim"),
        steps(capacity, model.gap_s * S),
        _price(model, len(common) * model.gap_s, random),
        model.on_demand_price,
    )


def _latent(model: MarketModel, calm: float, count: int, random: Random) -> list[float]:
    """Standard normal at each tick."""
    dt_h = model.gap_s / HOUR_S
    keep = [math.exp(-dt_h / tau_h) for tau_h in (model.slow_h, model.fast_h)]
    kick = [math.sqrt(1 - by * by) for by in keep]
    # The fast one is smoothed by a second filter like the first, or every crossing of a threshold would be many.
    scale = math.sqrt((1 - keep[1] ** 2) / (1 + keep[1] ** 2))
    weight = math.sqrt(calm), math.sqrt(1 - calm)
    slow, fast, smooth = random.gauss(), random.gauss(), random.gauss()
    values = []
    for _ in range(count):
        values.append(weight[0] * slow + weight[1] * smooth)
        slow = keep[0] * slow + kick[0] * random.gauss()
        fast = keep[1] * fast + kick[1] * random.gauss()
        smooth = keep[1] * smooth + kick[1] * fast * scale
    return values


def _machines(latent: float, none_below: float, full_above: float, most: int) -> int:
    if latent < none_below:
        return 0
    if latent >= full_above:
        return most
    return min(most - 1, 1 + int((latent - none_below) / (full_above - none_below) * (most - 1)))


def _price(model: MarketModel, length_s: float, random: Random) -> Steps:
    """USD an hour, over time."""
    level = model.on_demand_price * random.uniform(*model.spot_level)
    # Steps of rms s that revert by a share a each have a stationary variance of s^2 / (2a).
    revert = model.price_step**2 / (2 * model.price_spread**2)
    log, now_s = random.gauss(0.0, model.price_spread), 0.0
    times, values = [0], [round(level * math.exp(log), 4)]
    while (now_s := now_s + random.expovariate(1 / (model.price_every_h * HOUR_S))) < length_s:
        log += -revert * log + random.gauss(0.0, model.price_step)
        price = round(level * math.exp(log), 4)
        if price != values[-1] and round(now_s * S) > times[-1]:
            times.append(round(now_s * S))
            values.append(price)
    return Steps(tuple(times), tuple(values))
