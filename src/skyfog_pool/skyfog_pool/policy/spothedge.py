"""SpotHedge as published (SkyServe, arXiv 2411.01438, section 3), and what SkyPilot 0.14 made of it.

    Z_A <- Z; Z_P <- {}                      zones believed good, zones that preempted
    on preemption in z:   move z to Z_P; if |Z_A| < 2: Z_A <- Z_A + Z_P, Z_P <- {}
    on launch in z:       move z to Z_A
    SELECT-NEXT-ZONE(Z' in use):   Z'' = Z_A without Z';  MIN-COST(Z'' or else Z_A)
    spot target = N_tar + N_extra;   on demand O(t) = min(N_tar, N_tar + N_extra - ready_spot(t))

A launch that fails for want of capacity counts as a preemption of its zone: otherwise the cheapest zone would be asked
for ever. Where a base on demand is asked for (SkyPilot's key; not in the paper) it is taken off the spot target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from skyfog_pool.policy.market import LaunchFailed, LaunchFault, Lost, MarketEvent, Priced, Started, Zone
from skyfog_pool.policy.parts import adjust, adjust_on_demand, without_spot
from skyfog_pool.policy.view import Plan, View


class SpotHedge:
    """The published policy. It knows no notices, no lifetimes, and no prices but those of now."""

    extra = 1  # N_extra where the spec says none: the default of the authors' code when the paper was written
    faults: frozenset[LaunchFault] = frozenset({"capacity"})  # failures to launch that tell against a zone

    def __init__(self, zones: Iterable[Zone]) -> None:
        self._zones = {zone.name for zone in zones}
        self._active = set(self._zones)
        self._preempting: set[str] = set()

    def observe(self, event: MarketEvent, now_ns: int) -> None:
        match event:
            case Started(zone=zone, market="spot"):
                self._preempting.discard(zone)
                self._active.add(zone)
            case Lost(zone=zone):
                self._preempts(zone)
            case LaunchFailed(zone=zone, market="spot", why=why) if why in self.faults:
                self._preempts(zone)

    def decide(self, view: View, now_ns: int) -> Plan:
        if not view.use_spot:
            return without_spot(view)
        config = view.config
        base = min(config.base_ondemand_fallback_replicas, view.target)
        extra = self.extra if config.num_overprovision is None else config.num_overprovision
        # Nobody is wanted: nobody is kept as a safeguard of nobody.
        spot_target = view.target + extra - base if view.target else 0
        missing = max(0, spot_target - view.ready("spot")) if config.dynamic_ondemand_fallback else 0
        on_demand_target = min(base + missing, view.target)
        start, retire = adjust(
            view,
            "spot",
            view.of("spot"),
            spot_target,
            lambda held: self._next_zone(view, held),
            "below the spot target",
            "above the spot target",
        )
        more, fewer = adjust_on_demand(
            view, on_demand_target, "stands in for spot that is not ready", "spot is ready again"
        )
        return Plan((*start, *more), (*retire, *fewer))

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        return {"preempting": sorted(self._preempting)}

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        self._preempting = set(state["preempting"]) & self._zones
        self._active = self._zones - self._preempting

    def beliefs(self) -> dict[str, str]:
        """Of each zone, for those who look."""
        return {zone: "preempting" if zone in self._preempting else "active" for zone in sorted(self._zones)}

    def _preempts(self, zone: str) -> None:
        self._active.discard(zone)
        self._preempting.add(zone)
        if len(self._active) < 2:
            self._active |= self._preempting
            self._preempting = set()

    def _next_zone(self, view: View, held: Counter[str]) -> str | None:
        """SELECT-NEXT-ZONE."""
        # It knows no back-off: a zone that the pool waits for is chosen too, and the pool launches there when it opens.
        known = [*view.offered("spot"), *view.waits]
        active = [zone for zone in known if zone in self._active] or known
        fresh = [zone for zone in active if not held[zone]]
        return min(fresh or active, key=lambda zone: (self._cost(view, zone), zone), default=None)

    def _cost(self, view: View, zone: str) -> float:
        return view.waits.get(zone, view.prices[zone].spot)


class DynamicFallback(SpotHedge):
    """SkyPilot 0.14's `dynamic_fallback` (sky/serve/spot_placer.py, autoscalers.py).

    Any failure to launch marks the zone, whatever it was; prices are those of the first look; no over-provision unless
    asked for.
    """

    extra = 0
    faults = frozenset({"capacity", "quota", "rejected", "error"})

    def __init__(self, zones: Iterable[Zone]) -> None:
        super().__init__(zones)
        self._costs: dict[str, float] = {}

    def observe(self, event: MarketEvent, now_ns: int) -> None:
        super().observe(event, now_ns)
        if isinstance(event, Priced) and event.prices.spot < inf:
            self._costs.setdefault(event.zone, event.prices.spot)

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        return super().snapshot(now_ns) | {"costs": self._costs}

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        super().restore(state, now_ns)
        self._costs = dict(state["costs"])

    def _cost(self, view: View, zone: str) -> float:
        return self._costs.get(zone, inf)
