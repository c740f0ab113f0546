"""What a way to hold the pool costs an hour: its machines, and the losses that bring it below its target.

A loss in a zone takes its machines from the top: the room for us falls below some number (see `lifetime`). With s spare
replicas the target is missed where more than s go at once, and then for a cold start. So the cost of n_z machines in
zones z is

    sum n_z price_z + event_usd x sum over z of rate(fewer than n_z - s are left), deep losses weighing more
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skyfog_pool.policy.lifetime import MAX_SLOT

# How much worse it is to lose many at once: a blackout stops robots, one of four does not. Of the weight of a loss, for
# each missing replica squared over the target.
DEPTH = 0.5


@dataclass(slots=True)
class Risk:
    """Of one pool at one moment."""

    prices: Mapping[str, float]  # spot, USD an hour; only zones where it is offered
    od_price: float  # USD an hour; infinite: not to be had
    hazards: Mapping[str, list[float]]  # by zone and number held: events an hour in which the room falls below it
    event_usd: float  # of one loss that is not covered
    cold_h: float  # cold start, hours
    target: int  # replicas that spot is to fill

    def events(self, held: Mapping[str, int], spares: int) -> float:
        """Losses an hour that bring the pool below its target, deep ones weighing more."""
        total = rate = 0.0
        for zone, count in held.items():
            if count == 0:
                continue
            hazard = self.hazards[zone]
            rate += hazard[count]
            for left in range(min(count - spares, MAX_SLOT)):  # above, the rate rises no more
                missing = count - left - spares
                total += (hazard[left + 1] - hazard[left]) * (1.0 + DEPTH * missing * missing / self.target)
        if spares:
            total += rate * rate * self.cold_h  # another one before the first is replaced
        return total

    def usd(self, held: Mapping[str, int], spares: int) -> float:
        return self.event_usd * self.events(held, spares)

    def best(self, held: dict[str, int], spares: int, zones: Iterable[str]) -> str | None:
        """Of `zones`, where one more spot machine adds least to the cost."""
        best: tuple[float, int, str] | None = None
        for zone in zones:
            count = held.get(zone, 0)
            held[zone] = count + 1
            this = self.prices[zone] + self.usd(held, spares), count, zone
            held[zone] = count
            best = this if best is None else min(best, this)
        return None if best is None else best[2]

    def worst(self, held: dict[str, int]) -> str | None:
        """Where one spot machine fewer saves most."""

        def left_usd(zone: str) -> tuple[float, int, str]:
            held[zone] -= 1
            usd = self.usd(held, 0) - self.prices[zone]
            held[zone] += 1
            return usd, -held[zone], zone

        return min((zone for zone in held if held[zone]), key=left_usd, default=None)

    def trimmed(self, held: Mapping[str, int]) -> dict[str, int]:
        """Without what is beyond the target."""
        left = dict(held)
        for _ in range(sum(left.values()) - self.target):
            worst = self.worst(left)
            assert worst is not None
            left[worst] -= 1
        return left

    def spares(self, held: dict[str, int], zones: list[str], most: int, running: int, keep: float) -> tuple[int, int]:
        """How many to hold beyond the target at least cost: on spot in `zones`, on demand.

        Of `held`, which has none. `running` spares are there already: those are kept down to `keep` of the price that
        starting one must save, so that they do not come and go.
        """
        spot = on_demand = 0
        usd, least, choice = 0.0, self.usd(held, 0), (0, 0)
        for spare in range(1, most + 1):
            share = keep if spare <= running else 1.0
            zone = self.best(held, spare, zones)
            spot_usd = math.inf
            if zone is not None:
                spot_usd = self.prices[zone] + self.usd({**held, zone: held.get(zone, 0) + 1}, spare)
            if zone is not None and spot_usd <= self.od_price + self.usd(held, spare):
                held[zone] = held.get(zone, 0) + 1
                spot, usd = spot + 1, usd + self.prices[zone] * share
            elif math.isfinite(self.od_price):
                on_demand, usd = on_demand + 1, usd + self.od_price * share
            else:
                break
            total = usd + self.usd(held, spare)
            if total < least:
                least, choice = total, (spot, on_demand)
        return choice

    def pays_to_move(self, held: Mapping[str, int], zones: list[str]) -> bool:
        """Whether on-demand machines that stand in are better replaced by spot in `zones` now, or later.

        A zone that has just come back is soon lost again: then one machine there shows how it stands (its price is on
        the side of staying), and the others wait.
        """
        missing = self.target - sum(held.values())
        stay = missing * self.od_price + self.usd(held, 0) + min((self.prices[zone] for zone in zones), default=0.0)
        moved, usd = dict(held), 0.0
        for _ in range(missing):
            zone = self.best(moved, 0, zones)
            if zone is None:
                return True
            moved[zone] = moved.get(zone, 0) + 1
            usd += self.prices[zone]
        return usd + self.usd(moved, 0) < stay
