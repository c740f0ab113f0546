"""Strategies of placement, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skyfog_core.config.pool import PlacerName
from skyfog_pool.policy.baselines import Asg, EvenSpread, OnDemand, RoundRobin
from skyfog_pool.policy.market import Zone
from skyfog_pool.policy.skyfog import Skyfog
from skyfog_pool.policy.spothedge import DynamicFallback, SpotHedge
from skyfog_pool.policy.view import Placement

PLACEMENTS: dict[PlacerName, Callable[[Iterable[Zone]], Placement]] = {
    "skyfog": Skyfog,
    "spothedge": SpotHedge,
    "dynamic_fallback": DynamicFallback,
    "on_demand": OnDemand,
    "even_spread": EvenSpread,
    "round_robin": RoundRobin,
    "asg": Asg,
}
