"""How far the replicas of one zone are slow or gone together.

Two copies in one zone are worth less than two in different zones: what slows one often slows its neighbour. For each
zone: a = P(an answer is slow | the last of another replica there, within WINDOW, was slow), p = P(slow). Then
rho = (a - p) / (1 - p), drawn to PRIOR while little is known. "Slow" means beyond the replica's own 90 % quantile, or
no answer at all.

The chance that all copies miss: independent between zones; inside a zone a mix of independent (1 - rho) and of the
same fate (rho), that is (1 - rho) * product(m) + rho * min(m).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skyfog_core.units import S
from skyfog_core.wire.keys import ReplicaKey

PRIOR = 0.2
PRIOR_WEIGHT = 10.0
WINDOW_NS = 2 * S
MEMORY = 200.0


@dataclass(slots=True)
class _Zone:
    last: ReplicaKey | None = None
    last_slow: bool = False
    last_ns: int = 0
    pairs: float = 0.0  # with a slow one first, faded
    both: float = 0.0
    seen: float = 0.0
    slow: float = 0.0


class Zones:
    """The correlation rho of each zone."""

    def __init__(self) -> None:
        self._zones: dict[str, _Zone] = {}

    def observe(self, replica: ReplicaKey, slow: bool, now_ns: int) -> None:
        """One answer, or its absence."""
        zone = self._zones.setdefault(replica.zone, _Zone())
        fade = 1.0 - 1.0 / MEMORY
        zone.seen, zone.slow = zone.seen * fade + 1.0, zone.slow * fade + slow
        neighbour = zone.last is not None and zone.last != replica and now_ns - zone.last_ns <= WINDOW_NS
        if neighbour and zone.last_slow:
            zone.pairs, zone.both = zone.pairs * fade + 1.0, zone.both * fade + slow
        zone.last, zone.last_slow, zone.last_ns = replica, slow, now_ns

    def rho(self, zone: str) -> float:
        """0 where replicas of the zone are slow independently, 1 where all are slow together."""
        known = self._zones.get(zone)
        if known is None or not known.pairs:
            return PRIOR
        base = known.slow / known.seen
        if base >= 1.0:
            return PRIOR
        together = max(0.0, (known.both / known.pairs - base) / (1.0 - base))
        return (PRIOR * PRIOR_WEIGHT + together * known.pairs) / (PRIOR_WEIGHT + known.pairs)

    def all_miss(self, misses: Sequence[tuple[str, float]]) -> float:
        """P(all copies miss) from (zone, P(this one misses)); 1 for no copies."""
        if len(misses) == 1:
            return misses[0][1]
        result = 1.0
        together: dict[str, tuple[float, float]] = {}  # product and least of a zone
        for zone, miss in misses:
            product, least = together.get(zone, (1.0, 1.0))
            together[zone] = (product * miss, min(least, miss))
        for zone, (product, least) in together.items():
            result *= self._together(zone, product, least)
        return result

    def with_one_more(self, misses: Sequence[tuple[str, float]], zone: str) -> Callable[[float], float]:
        """P(all copies and one more in `zone` miss), as a function of P(that one misses)."""
        elsewhere = self.all_miss([one for one in misses if one[0] != zone])
        here = [miss for where, miss in misses if where == zone]
        if not here:
            return lambda miss: elsewhere * miss
        product, least, rho = math.prod(here), min(here), self.rho(zone)
        return lambda miss: elsewhere * ((1.0 - rho) * product * miss + rho * min(least, miss))

    def _together(self, zone: str, product: float, least: float) -> float:
        """P(all copies of one zone miss)."""
        if product >= least:  # a single copy, or others that are sure to miss
            return least
        rho = self.rho(zone)
        return (1.0 - rho) * product + rho * least
