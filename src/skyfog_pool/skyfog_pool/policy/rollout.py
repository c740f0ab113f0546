"""A new version takes the place of an old one: replica by replica, never below what is ready.

A newer replica starts beside the older one that it is to replace; at most `surge` of them are under way. Once it is
ready the older one is drained. Older replicas that are not up yet are of no use: they go at once, and what is started
for them is of the new version. To go back in mid-update is the same with other numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf

from skyfog_pool.lifecycle import LAUNCHING
from skyfog_pool.policy.market import Market, Prices
from skyfog_pool.policy.view import Replica


def is_on(replicas: Mapping[int, Replica], version: int) -> bool:
    """Whether any is of another version, or stands in for one that was."""
    return any(who.version != version or who.replaces is not None for who in replicas.values())


def dissolve(replicas: Mapping[int, Replica]) -> None:
    """A replica whose older one is gone, or leaves, stands for itself."""
    for who in replicas.values():
        if who.replaces is not None:
            older = replicas.get(who.replaces)
            if older is None or not older.counts:
                who.replaces = None


def visible(replicas: Mapping[int, Replica]) -> list[Replica]:
    """What strategies see: of two that are one, the older."""
    return [who for who in replicas.values() if who.replaces is None or not who.counts]


def outdated(replicas: Mapping[int, Replica], version: int) -> list[tuple[Replica, str]]:
    """Replicas of another version that are to go now, and why."""
    going = [
        (who, "an older version, and not up yet")
        for who in replicas.values()
        if who.version != version and who.state in LAUNCHING and who.counts
    ]
    replaced = [
        (replicas[who.replaces], f"replica {who.id} of version {version} is ready in its place")
        for who in replicas.values()
        if who.replaces is not None and who.is_ready and who.version == version
    ]
    return going + replaced


def next_to_replace(replicas: Mapping[int, Replica], version: int) -> Replica | None:
    """The older replica that is next: one that does not answer, then the costliest, then the oldest."""
    paired = {who.replaces for who in replicas.values()}
    older = [who for who in replicas.values() if who.version != version and who.counts and who.id not in paired]
    return min(older, key=lambda who: (who.is_ready, -who.price_per_hour, who.launched_ns, who.id), default=None)


def under_way(replicas: Mapping[int, Replica]) -> int:
    """Newer replicas that are to take an older one's place."""
    return sum(who.replaces is not None and who.counts for who in replicas.values())


def place_for(
    older: Replica, replicas: Sequence[Replica], prices: Mapping[str, Prices], use_spot: bool
) -> tuple[str, Market] | None:
    """Where the replica that takes its place goes: to the same zone and market, or else where fewest are, and cheapest.

    On demand where no spot machine is to be had. None: nowhere now.
    """
    market: Market = older.market if use_spot else "on_demand"
    if older.zone in prices and prices[older.zone].of(market) < inf:
        return older.zone, market
    held = Counter(who.zone for who in replicas if who.counts)
    markets: list[Market] = [market] if market == "on_demand" else [market, "on_demand"]
    for wanted in markets:
        zones = [zone for zone, price in prices.items() if price.of(wanted) < inf]
        if zones:
            return min(zones, key=lambda zone: (held[zone], prices[zone].of(wanted), zone)), wanted
    return None
