"""When not to launch: after failed launches in a zone and market, and after a service that keeps failing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from skyfog_core.units import S
from skyfog_pool.policy.market import LaunchFault, Market, Prices

# Pause after the first failure in a row, and the longest pause. Where capacity is missing the strategies choose another
# zone by themselves: the pause only keeps them from asking in a tight loop when no zone has any (SkyServe's: 20 s).
PAUSES_S: dict[LaunchFault, tuple[float, float]] = {
    "capacity": (20.0, 60.0),
    "error": (5.0, 300.0),
    "quota": (300.0, 3_600.0),
    "rejected": (inf, inf),  # the order itself is wrong: only another spec helps
}
CLEANUP_S = (5.0, 300.0)
FAILING_S = (10.0, 600.0)
FAILING_BESIDE_READY_S = 60.0  # longest pause while a replica of the same version is ready: then it works in principle
SOON_NS = 600 * S  # a service that fails so soon after its launch fails by itself, most likely
FORGOTTEN_NS = 1_200 * S  # without a failure, and a row of failures is over


def pause_ns(row: int, first_s: float, most_s: float) -> int | None:
    """Pause after the row-th failure in a row; None: for ever."""
    seconds = min(most_s, first_s * 2 ** min(row - 1, 30))
    return None if seconds == inf else round(seconds * S)


@dataclass(slots=True)
class Gate:
    """Of one zone and market: shut until then, or for ever."""

    why: LaunchFault
    row: int
    failed_ns: int
    until_ns: int | None

    def is_shut(self, now_ns: int) -> bool:
        return self.until_ns is None or now_ns < self.until_ns


class Gates:
    """Where nothing is launched for now."""

    def __init__(self) -> None:
        self._gates: dict[tuple[str, Market], Gate] = {}

    def failed(self, zone: str, market: Market, why: LaunchFault, launched_ns: int, now_ns: int) -> None:
        """A launch decided at `launched_ns` failed. Launches that were under way together fail as one."""
        old = self._gates.get((zone, market))
        row = 1
        if old is not None and old.why == why:
            if launched_ns < old.failed_ns:
                return
            row = old.row + 1 if now_ns - old.failed_ns < FORGOTTEN_NS + _length(old) else 1
        pause = pause_ns(row, *PAUSES_S[why])
        self._gates[zone, market] = Gate(why, row, now_ns, None if pause is None else now_ns + pause)

    def started(self, zone: str, market: Market) -> None:
        """A machine came: what failed is over."""
        gate = self._gates.get((zone, market))
        if gate is not None and gate.until_ns is not None:
            del self._gates[zone, market]

    def clear(self) -> None:
        """Another spec: everything may work again."""
        self._gates.clear()

    def shut(self, now_ns: int) -> dict[tuple[str, Market], Gate]:
        return {key: gate for key, gate in self._gates.items() if gate.is_shut(now_ns)}

    def of(self, prices: Mapping[str, Prices], now_ns: int) -> Mapping[str, Prices]:
        """Prices, infinite where nothing is launched for now."""
        shut = self.shut(now_ns)
        if not shut:
            return prices
        return {
            zone: Prices(
                inf if (zone, "spot") in shut else price.spot, inf if (zone, "on_demand") in shut else price.on_demand
            )
            for zone, price in prices.items()
        }

    def waits(self, prices: Mapping[str, Prices], now_ns: int) -> dict[str, float]:
        """Spot prices of zones where nothing is launched for now, only because none was to be had."""
        return {
            zone: prices[zone].spot
            for (zone, market), gate in self.shut(now_ns).items()
            if market == "spot" and gate.why == "capacity" and zone in prices and prices[zone].spot < inf
        }

    def next_ns(self, now_ns: int) -> int | None:
        """When the next one opens."""
        times = (gate.until_ns for gate in self._gates.values() if gate.is_shut(now_ns))
        return min((time for time in times if time is not None), default=None)

    def snapshot(self, now_ns: int) -> list[dict[str, Any]]:
        """Plain data for JSON, times as ages."""
        return [
            {
                "zone": zone,
                "market": market,
                "why": gate.why,
                "row": gate.row,
                "failed_ns_ago": now_ns - gate.failed_ns,
                "opens_in_ns": None if gate.until_ns is None else gate.until_ns - now_ns,
            }
            for (zone, market), gate in sorted(self._gates.items())
        ]

    def restore(self, rows: Iterable[Mapping[str, Any]], now_ns: int) -> None:
        for row in rows:
            opens = row["opens_in_ns"]
            self._gates[row["zone"], row["market"]] = Gate(
                row["why"], row["row"], now_ns - row["failed_ns_ago"], None if opens is None else now_ns + opens
            )


class Failing:
    """A service that ends again and again soon after its start is not launched in a tight loop."""

    def __init__(self) -> None:
        self.row = 0
        self.until_ns = 0
        self._failed_ns = 0

    def failed(self, launched_ns: int, another_is_ready: bool, now_ns: int) -> None:
        """A replica launched at `launched_ns` failed. Those that were there together fail as one."""
        if self.row and launched_ns < self._failed_ns:
            return
        in_a_row = now_ns - launched_ns < SOON_NS and now_ns - self._failed_ns < FORGOTTEN_NS
        self.row, self._failed_ns = self.row + 1 if in_a_row else 1, now_ns
        first_s, most_s = FAILING_S
        # The first failure may be the machine's: it is replaced at once.
        pause = (
            0
            if self.row < 2
            else pause_ns(self.row - 1, first_s, FAILING_BESIDE_READY_S if another_is_ready else most_s)
        )
        self.until_ns = now_ns + (pause or 0)

    def clear(self) -> None:
        self.row, self.until_ns = 0, 0

    def snapshot(self, now_ns: int) -> dict[str, int]:
        """Plain data for JSON, times as ages."""
        return {"row": self.row, "opens_in_ns": self.until_ns - now_ns, "failed_ns_ago": now_ns - self._failed_ns}

    def restore(self, state: Mapping[str, int], now_ns: int) -> None:
        self.row = state["row"]
        self.until_ns = now_ns + state["opens_in_ns"]
        self._failed_ns = now_ns - state["failed_ns_ago"]


def _length(gate: Gate) -> int:
    return 0 if gate.until_ns is None else gate.until_ns - gate.failed_ns
