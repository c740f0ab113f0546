"""What strategies share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from skyfog_pool.policy.drain import surplus
from skyfog_pool.policy.market import Market
from skyfog_pool.policy.view import Plan, Replica, Retire, Start, View

# Zones of the market's replicas so far, with how many in each -> the next one's zone; None: nowhere now.
Choose = Callable[["Counter[str]"], str | None]


def adjust(
    view: View, market: Market, have: list[Replica], wanted: int, choose: Choose, more: str, fewer: str
) -> tuple[list[Start], list[Retire]]:
    """From `have` to `wanted` replicas of a market; `more` and `fewer` say why."""
    start: list[Start] = []
    held = Counter(replica.zone for replica in have)
    for _ in range(wanted - len(have)):
        zone = choose(held)
        if zone is None:
            break
        held[zone] += 1
        start.append(Start(zone, market, more))
    return start, [Retire(replica.id, fewer) for replica in surplus(view, have, len(have) - wanted)]


def adjust_on_demand(view: View, wanted: int, more: str, fewer: str) -> tuple[list[Start], list[Retire]]:
    """The cheapest zone, of several the one with fewest."""

    def choose(held: Counter[str]) -> str | None:
        return min(
            view.offered("on_demand"), key=lambda zone: (view.prices[zone].on_demand, held[zone], zone), default=None
        )

    return adjust(view, "on_demand", view.of("on_demand"), wanted, choose, more, fewer)


def without_spot(view: View) -> Plan:
    """All on demand, and nothing else: where no spot machines may be used."""
    start, retire = adjust_on_demand(view, view.target, "below the target", "above the target")
    retire += [Retire(replica.id, "no spot machines may be used") for replica in view.of("spot")]
    return Plan(tuple(start), tuple(retire))
