"""How long spot machines live in a zone, learnt from losses and from machines that lived on (censored).

Theory. The n-th machine that we hold in a zone (its n-th slot) is taken when the zone's room for us falls below n. In
recorded markets the rate of that falls with the time that the slot has been held without a loss: a slot that has just
come back is lost again within the hour, one that has stood for half a day stands on. That is a Lomax (Pareto II)
lifetime, hazard alpha / (theta + age). Its time is stretched: in X = ln((theta + age) / theta) losses come at the
constant rate alpha, so that with a Gamma prior (k losses seen in a stretch k / alpha0 of X) the estimate is

    alpha = (k + losses) / (k / alpha0 + sum of X over all spans held, ended by a loss or not)

The spans that ended otherwise (we gave the machine back, it still runs) add to the sum and not to the losses: that is
what censoring asks for. Old spans fade, as markets change.

One machine lost makes the next loss likelier, in the zone and in others: `Contagion` counts how often that was so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from skyfog_pool.policy.market import Zone

HOUR_S = 3_600.0

ALPHA = 0.35  # losses per unit of X before any is seen: between the worst and the best recorded zones (0.2 .. 0.9)
RATE = 0.1
PRIOR_ANY = 1.0
PRIOR_LOSSES = 2.0  # weight of that guess: as if two losses had been seen
THETA_S = 900.0  # age below which the rate no longer rises; cloud markets clear in minutes
FADE_S = 5 * 86_400.0  # time after which what was seen weighs half
FORGET_S = 6 * HOUR_S  # a slot's age halves for each such time that it is not held: what we do not see may have fallen
WINDOW_S = 600.0  # a loss is followed by another within that, or it was not followed
AT_ONCE_S = 30.0  # losses so close together are one
SAME_ZONE, SAME_REGION, ELSEWHERE = 0.4, 0.15, 0.03  # chance of that before any was seen
GUESSES = 4.0  # weight of those: as if so many losses had been seen
MAX_SLOT = 16  # slots from here on are one
NEW_AGE_S = 1_800.0  # of a zone never used: it is probably in the midst of a span, of which the long ones are most


@dataclass(slots=True)
class Slot:
    """The n-th machine of a zone."""

    age_s: float = NEW_AGE_S  # held without a loss
    young: float = 0.0  # losses for being young, faded
    stretch: float = 0.0  # X, faded
    any_age: float = 0.0  # losses at any age, faded
    held_h: float = 0.0  # hours held, faded

    @property
    def alpha(self) -> float:
        return (PRIOR_LOSSES + self.young) / (PRIOR_LOSSES / ALPHA + self.stretch)

    @property
    def rate(self) -> float:
        """Losses an hour at any age."""
        return (PRIOR_ANY + self.any_age) / (PRIOR_ANY / RATE + self.held_h)

    def hazard(self, ahead_s: float) -> float:
        """Losses an hour to expect, on average over the time ahead."""
        age_s = THETA_S + self.age_s
        stretch = math.log1p(ahead_s / age_s) / ahead_s if ahead_s > 0 else 1.0 / age_s
        return self.alpha * HOUR_S * stretch + self.rate

    def hold(self, seconds: float) -> None:
        self.stretch += math.log1p(seconds / (THETA_S + self.age_s))
        self.held_h += seconds / HOUR_S
        self.age_s += seconds

    def lose(self) -> None:
        young = self.alpha * HOUR_S / (THETA_S + self.age_s)
        share = young / (young + self.rate)
        self.young += share
        self.any_age += 1.0 - share
        self.age_s = 0.0


class Lifetimes:
    """Of one zone: its slots, as far as they were ever used."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []

    def pass_time(self, seconds: float, held: int, is_open: bool) -> None:
        """`held` machines ran there for so long; `is_open`: and nothing was refused, so that more could have."""
        fade, forget = 0.5 ** (seconds / FADE_S), 0.5 ** (seconds / FORGET_S)
        self._reach(held)
        for n, slot in enumerate(self.slots):
            slot.young, slot.stretch = slot.young * fade, slot.stretch * fade
            slot.any_age, slot.held_h = slot.any_age * fade, slot.held_h * fade
            if n < held:
                slot.hold(seconds)
            elif held and is_open:
                slot.age_s += seconds
            else:
                slot.age_s *= forget

    def lose(self, n: int) -> None:
        """The n-th machine was taken (n from 1)."""
        self._reach(n)
        self.slots[min(n, MAX_SLOT) - 1].lose()
        self.refuse(n)

    def refuse(self, n: int) -> None:
        """An n-th machine was not to be had: those slots are not up, whatever we believed."""
        self._reach(n)
        for slot in self.slots[min(n, MAX_SLOT) - 1 :]:
            slot.age_s = 0.0

    def hazards(self, most: int, ahead_s: float = 0.0) -> list[float]:
        """By number held, 0 up to `most`: events an hour in which the room falls below that many. Never falling."""
        self._reach(1)
        rates, top = [0.0], 0.0
        for slot in self.slots[:most]:
            top = max(top, slot.hazard(ahead_s))
            rates.append(top)
        return rates + [top] * (most + 1 - len(rates))  # a slot never used is as its neighbour below

    def _reach(self, n: int) -> None:
        while len(self.slots) < min(n, MAX_SLOT):
            self.slots.append(replace(self.slots[-1]) if self.slots else Slot())

    def snapshot(self) -> list[list[float]]:
        return [[slot.age_s, slot.young, slot.stretch, slot.any_age, slot.held_h] for slot in self.slots]

    def restore(self, state: Iterable[Iterable[float]]) -> None:
        self.slots = [Slot(*values) for values in state]


@dataclass(slots=True)
class Contagion:
    """How often a loss in a zone was followed within WINDOW_S by another one, there or in another zone."""

    _seen: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # zone, other: losses, followed

    def watch(self, zone: str, others: Iterable[str]) -> None:
        """A loss in `zone`, while machines were held in `others` (the zone itself may be among them)."""
        for other in others:
            self._seen.setdefault((zone, other), [0.0, 0.0])[0] += 1.0

    def follow(self, zone: str, other: str) -> None:
        """It was followed by one in `other`."""
        seen = self._seen.setdefault((zone, other), [1.0, 0.0])
        seen[1] = min(seen[0], seen[1] + 1.0)

    def chance(self, zone: Zone, other: Zone) -> float:
        losses, followed = self._seen.get((zone.name, other.name), (0.0, 0.0))
        guess = SAME_ZONE if zone == other else SAME_REGION if zone.region == other.region else ELSEWHERE
        return (GUESSES * guess + followed) / (GUESSES + losses)

    def snapshot(self) -> list[list[Any]]:
        return [[zone, other, *seen] for (zone, other), seen in sorted(self._seen.items())]

    def restore(self, state: Iterable[Any]) -> None:
        self._seen = {(zone, other): [losses, followed] for zone, other, losses, followed in state}
