"""SpotHedge as published (SkyServe, arXiv 2411.01438, section 3): which zones, how many spot, how many on demand.

Zones are believed good (active) or to preempt (preempting). The spot target is N_tar + N_extra; on demand
O(t) = min(N_tar, N_tar + N_extra - ready_spot(t)).
"""

from __future__ import annotations

from collections.abc import Iterable

from skyfog_pool.policy.market import BecameReady, LaunchFailed, Lost, MarketEvent, Zone
from skyfog_pool.policy.view import Plan, Replica, Retire, Start, View


class SpotHedge:
    """The published policy. It knows no notices, no lifetimes, and no prices but those of now."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        self._active = {zone.name for zone in zones}
        self._preempting: set[str] = set()

    def observe(self, event: MarketEvent, now_ns: int) -> None:
        match event:
            case BecameReady(zone=zone, market="spot"):
                self._preempting.discard(zone)
                self._active.add(zone)
            case Lost(zone=zone) | LaunchFailed(zone=zone, market="spot"):
                self._active.discard(zone)
                self._preempting.add(zone)
                if len(self._active) < 2:
                    self._active |= self._preempting
                    self._preempting = set()

    def decide(self, view: View, now_ns: int) -> Plan:
        spot, on_demand = view.of("spot"), view.of("on_demand")
        spot_target = view.target + (view.config.num_overprovision or 0)
        on_demand_target = min(view.target, max(0, spot_target - view.ready("spot")))
        start: list[Start] = []
        used = {replica.zone for replica in spot}
        for _ in range(spot_target - len(spot)):
            zone = self._next_zone(view, used)
            used.add(zone)
            start.append(Start(zone, "spot", "below the spot target"))
        cheapest = min(view.prices, key=lambda zone: view.prices[zone].on_demand)
        missing = on_demand_target - len(on_demand)
        start += [Start(cheapest, "on_demand", "stands in for spot that is not ready")] * missing
        retire = [Retire(replica.id, "above the spot target") for replica in _newest(spot, len(spot) - spot_target)]
        retire += [Retire(replica.id, "spot is ready again") for replica in _newest(on_demand, -missing)]
        return Plan(tuple(start), tuple(retire))

    def _next_zone(self, view: View, used: set[str]) -> str:
        """SELECT-NEXT-ZONE."""
        offered = [zone for zone in self._active if zone in view.prices] or list(view.prices)
        fresh = [zone for zone in offered if zone not in used]
        return min(fresh or offered, key=lambda zone: (view.prices[zone].spot, zone))


def _newest(replicas: list[Replica], count: int) -> list[Replica]:
    return sorted(replicas, key=lambda replica: (replica.is_ready, -replica.launched_ns))[: max(0, count)]
