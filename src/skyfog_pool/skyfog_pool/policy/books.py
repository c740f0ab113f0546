"""What the machines cost: machine time and USD by market and zone, equal to the sum over replicas.

A machine is paid from its start to its end at its market's price of the moment, as clouds bill spot machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isclose
from typing import Any

from skyfog_core.units import S
from skyfog_pool.policy.market import Market, Prices
from skyfog_pool.policy.view import Replica

HOUR_NS = 3_600 * S


@dataclass(slots=True)
class Spent:
    """On one market in one zone."""

    machine_ns: int = 0
    usd: float = 0.0


class Books:
    """Spent so far. `settle` a replica before its price changes and when it ends."""

    def __init__(self) -> None:
        self.spent: dict[tuple[Market, str], Spent] = {}
        self._closed: dict[tuple[Market, str], Spent] = {}  # of replicas that have ended

    def settle(self, who: Replica, now_ns: int) -> None:
        """Write down what a replica's machine has cost since it was last written down."""
        if who.started_ns is None:
            return
        since_ns = who.started_ns if who.billed_ns is None else who.billed_ns
        took_ns = max(0, now_ns - since_ns)
        usd = who.price_per_hour * took_ns / HOUR_NS
        who.billed_ns = max(now_ns, since_ns)
        _add(self.spent, who, took_ns, usd)
        who.machine_ns += took_ns
        who.usd += usd

    def close(self, who: Replica, now_ns: int) -> None:
        """Its machine is gone."""
        self.settle(who, now_ns)
        _add(self._closed, who, who.machine_ns, who.usd)

    def reprice(self, who: Replica, prices: Prices, now_ns: int) -> None:
        """From now on its machine costs what the market says; what is not offered any more costs what it did."""
        price = prices.of(who.market)
        if price < inf and price != who.price_per_hour:
            self.settle(who, now_ns)
            who.price_per_hour = price

    def total(self) -> Spent:
        """Over all markets and zones, as far as written down."""
        return Spent(
            sum(each.machine_ns for each in self.spent.values()), sum(each.usd for each in self.spent.values())
        )

    def check(self, live: Iterable[Replica]) -> None:
        """Raise if what was spent is not the sum over replicas."""
        sums = {key: Spent(each.machine_ns, each.usd) for key, each in self._closed.items()}
        for who in live:
            _add(sums, who, who.machine_ns, who.usd)
        for key in sums.keys() | self.spent.keys():
            one, other = self.spent.get(key, Spent()), sums.get(key, Spent())
            assert one.machine_ns == other.machine_ns, (key, one, other)
            assert isclose(one.usd, other.usd, rel_tol=1e-9, abs_tol=1e-9), (key, one, other)

    def snapshot(self) -> list[dict[str, Any]]:
        """Plain data for JSON."""
        return [
            {
                "market": market,
                "zone": zone,
                "machine_ns": spent.machine_ns,
                "usd": spent.usd,
                "closed_machine_ns": self._closed.get((market, zone), Spent()).machine_ns,
                "closed_usd": self._closed.get((market, zone), Spent()).usd,
            }
            for (market, zone), spent in sorted(self.spent.items())
        ]

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            key = (row["market"], row["zone"])
            self.spent[key] = Spent(row["machine_ns"], row["usd"])
            self._closed[key] = Spent(row["closed_machine_ns"], row["closed_usd"])


def _add(books: dict[tuple[Market, str], Spent], who: Replica, machine_ns: int, usd: float) -> None:
    spent = books.setdefault((who.market, who.zone), Spent())
    spent.machine_ns += machine_ns
    spent.usd += usd
