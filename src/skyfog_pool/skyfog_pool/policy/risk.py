"""What a way to hold the pool costs an hour: its machines, and the losses that bring it below its target.

A loss in a zone takes its machines from the top: the room for us falls below some number (see `lifetime`). With s spare
replicas the target is missed where more than s go at once, and then for a cold start. So n_z machines in zones z cost

    sum over z of  n_z price_z + event_usd x rate(fewer than n_z - s are left) + loss_usd x rate(any is lost)

an hour, deep losses weighing more, and what it costs that a second zone loses before the first is replaced. For a given
s a zone's part depends on no other zone, so that machines can be dealt out one by one, each where it adds least. No
spare favours few zones (each zone is another that can fail); with s spares, s machines a zone are safe.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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
    loss_usd: float  # of any loss: the machine that is paid for while it starts
    cold_h: float  # cold start, hours
    target: int  # replicas that spot is to fill
    _parts: dict[tuple[str, int, int], float] = field(default_factory=dict)

    def _missed(self, zone: str, count: int, spares: int) -> float:
        """Losses an hour in a zone that bring the pool below its target, deep ones weighing more."""
        if count <= spares:
            return 0.0
        known = self._parts.get((zone, count, spares))
        if known is None:
            hazard, known = self.hazards[zone], 0.0
            for left in range(min(count - spares, MAX_SLOT)):  # above, the rate rises no more
                missing = count - left - spares
                known += (hazard[left + 1] - hazard[left]) * (1.0 + DEPTH * missing * missing / self.target)
            self._parts[zone, count, spares] = known
        return known

    def usd(self, held: Mapping[str, int], spares: int) -> float:
        """USD an hour, without the machines' prices."""
        missed = rate = 0.0
        for zone, count in held.items():
            if count:
                missed += self._missed(zone, count, spares)
                rate += self.hazards[zone][count]
        if spares:
            missed += rate * rate * self.cold_h  # another one before the first is replaced
        return self.event_usd * missed + self.loss_usd * rate

    def adds(self, zone: str, count: int, spares: int, rate: float) -> float:
        """USD an hour that the `count`-th machine in a zone adds; `rate`: losses an hour in the pool without it."""
        more = self.hazards[zone][count] - self.hazards[zone][count - 1]
        missed = self._missed(zone, count, spares) - self._missed(zone, count - 1, spares)
        if spares:
            missed += more * (2.0 * rate + more) * self.cold_h
        return self.prices[zone] + self.event_usd * missed + self.loss_usd * more

    def rate(self, held: Mapping[str, int]) -> float:
        """Losses an hour, of whatever depth."""
        return sum(self.hazards[zone][count] for zone, count in held.items())

    def best(self, held: Mapping[str, int], spares: int, zones: Iterable[str]) -> str | None:
        """Of `zones`, where one more spot machine adds least; of equals, where the fewest are."""
        rate = self.rate(held)
        choices = [(self.adds(z, held.get(z, 0) + 1, spares, rate), held.get(z, 0), z) for z in zones]
        return min(choices)[2] if choices else None

    def worst(self, held: Mapping[str, int], spares: int) -> str | None:
        """Where one spot machine fewer saves most; of equals, where the most are."""
        rate = self.rate(held)
        choices = [
            (self.adds(z, held[z], spares, rate - self.hazards[z][held[z]]), held[z], z) for z in held if held[z]
        ]
        return max(choices)[2] if choices else None

    def trimmed(self, held: Mapping[str, int], most: int) -> dict[str, int]:
        """At most so many of them."""
        left = dict(held)
        for _ in range(sum(left.values()) - most):
            worst = self.worst(left, max(0, most - self.target))
            assert worst is not None
            left[worst] -= 1
        return left

    def over_provision(self, rooms: Mapping[str, float], most: int, now: int, keep_usd: float) -> int:
        """How many spot spares are worth their price, where the pool could be dealt out anew over what has room.

        `rooms`: machines that each zone can hold, as far as known; `now`: spares at present, kept unless others save
        `keep_usd` an hour.
        """
        best = 0, math.inf
        for spares in range(most + 1):
            held: dict[str, int] = {}
            usd = 0.0
            for _ in range(self.target + spares):
                zone = self.best(held, spares, [z for z in rooms if held.get(z, 0) < rooms[z]])
                if zone is None:
                    usd = math.inf
                    break
                held[zone] = held.get(zone, 0) + 1
                usd += self.prices[zone]
            usd += self.usd(held, spares) - (keep_usd if spares == now else 0.0)
            if usd < best[1]:
                best = spares, usd
        return best[0]

    def spares(self, held: dict[str, int], zones: list[str], most: int, running: int, keep: float) -> tuple[int, int]:
        """How many more to hold for now, beyond the spares that are in `held`: on spot in `zones`, on demand.

        `running` are there already: those are kept down to `keep` of the price that starting one must save, so that
        they do not come and go.
        """
        first = max(0, sum(held.values()) - self.target)
        spot = on_demand = 0
        usd, least, choice = 0.0, self.usd(held, first), (0, 0)
        for more in range(1, most + 1):
            share, spares = keep if more <= running else 1.0, first + more
            zone = self.best(held, spares, zones)
            spot_usd = math.inf
            if zone is not None:
                spot_usd = self.prices[zone] + self.usd({**held, zone: held.get(zone, 0) + 1}, spares)
            if zone is not None and spot_usd <= self.od_price + self.usd(held, spares):
                held[zone] = held.get(zone, 0) + 1
                spot, usd = spot + 1, usd + self.prices[zone] * share
            elif math.isfinite(self.od_price):
                on_demand, usd = on_demand + 1, usd + self.od_price * share
            else:
                break
            total = usd + self.usd(held, spares)
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
