"""Simple strategies to compare with, as in SkyServe's evaluation (arXiv 2411.01438, section 5)."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil, inf
from typing import Any

from skyfog_pool.policy.market import Launched, MarketEvent, Priced, Zone
from skyfog_pool.policy.parts import Choose, adjust, adjust_on_demand, without_spot
from skyfog_pool.policy.view import Plan, Retire, View


class OnDemand:
    """No spot machine at all."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        pass

    def observe(self, event: MarketEvent, now_ns: int) -> None:
        pass

    def decide(self, view: View, now_ns: int) -> Plan:
        return without_spot(view)

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        pass


class EvenSpread(OnDemand):
    """Spot only, the same number in each zone, come what may: what a zone lacks is asked for there again and again."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        self._offers: set[str] = set()

    def observe(self, event: MarketEvent, now_ns: int) -> None:
        if isinstance(event, Priced):
            (self._offers.add if event.prices.spot < inf else self._offers.discard)(event.zone)

    def decide(self, view: View, now_ns: int) -> Plan:
        if not view.use_spot:
            return without_spot(view)

        def choose(held: Counter[str]) -> str | None:
            return min(self._offers & view.prices.keys(), key=lambda zone: (held[zone], zone), default=None)

        return _spot_only(view, choose)


class RoundRobin(OnDemand):
    """Spot only, each launch in the zone after the last one's."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        self._last = ""

    def observe(self, event: MarketEvent, now_ns: int) -> None:
        if isinstance(event, Launched) and event.market == "spot":
            self._last = event.zone

    def decide(self, view: View, now_ns: int) -> Plan:
        if not view.use_spot:
            return without_spot(view)
        last = self._last

        def choose(_held: Counter[str]) -> str | None:
            nonlocal last
            zones = view.offered("spot")
            if not zones:
                return None
            last = zones[bisect_right(zones, last) % len(zones)]
            return last

        return _spot_only(view, choose)

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        return {"last": self._last}

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        self._last = state["last"]


class Asg(OnDemand):
    """As an AWS auto-scaling group with mixed instances and capacity rebalancing.

    A fixed part is on demand: the base, and ON_DEMAND of what is above it. Spot machines are spread over the zones that
    have any. One that is at risk is replaced, and goes once its replacement is ready.
    """

    ON_DEMAND = 0.1  # OnDemandPercentageAboveBaseCapacity

    def decide(self, view: View, now_ns: int) -> Plan:
        if not view.use_spot:
            return without_spot(view)
        base = min(view.target, view.config.base_ondemand_fallback_replicas)
        on_demand = base + ceil(self.ON_DEMAND * (view.target - base))
        spot = view.target - on_demand + (view.config.num_overprovision or 0 if view.target else 0)
        sound = [replica for replica in view.of("spot") if replica.notice is None]
        start, retire = adjust(
            view,
            "spot",
            sound,
            spot,
            lambda held: min(
                view.offered("spot"), key=lambda zone: (held[zone], view.prices[zone].spot, zone), default=None
            ),
            "below its number",
            "above its number",
        )
        more, fewer = adjust_on_demand(view, on_demand, "the fixed part on demand", "above the fixed part on demand")
        if sum(replica.is_ready for replica in sound) >= spot:
            at_risk = [replica for replica in view.of("spot") if replica.notice is not None]
            retire += [Retire(replica.id, "at risk, and replaced") for replica in at_risk]
        return Plan((*start, *more), (*retire, *fewer))


def _spot_only(view: View, choose: Choose) -> Plan:
    wanted = view.target + (view.config.num_overprovision or 0 if view.target else 0)
    start, retire = adjust(view, "spot", view.of("spot"), wanted, choose, "below the target", "above the target")
    retire += [Retire(replica.id, "spot only") for replica in view.of("on_demand")]
    return Plan(tuple(start), tuple(retire))
