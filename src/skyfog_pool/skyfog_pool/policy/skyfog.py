"""Our default placement: least expected cost, with a price on every second below the target.

    what a second below target costs   `budget`: dearer as the service's allowance (1 - availability) is used up
    how soon machines will be lost     `lifetime`: per zone and number held; and what a loss says of other machines
    where machines are to be had       `room`: refusals, and when to ask again
    how long a replacement takes       the mean of the cold starts seen

Risk is the rate of losses that bring the pool below the target, times the cold start, times the price of a second. It
decides where the next spot machine goes, whether spares are worth their price (spot elsewhere, or on demand), and when
an on-demand machine that stood in for spot may go. A loss, or the notice of one, is answered at once: spot is tried
where it is likely, and on demand is ordered besides; whichever order is not needed is cancelled before it costs much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.budget import Budget
from skyfog_pool.policy.lifetime import HOUR_S, Contagion, Lifetimes
from skyfog_pool.policy.market import (
    BecameReady,
    LaunchFailed,
    Lost,
    Market,
    MarketEvent,
    Noticed,
    Priced,
    Started,
    Zone,
)
from skyfog_pool.policy.room import Room
from skyfog_pool.policy.view import Plan, Replica, Retire, Start, View


@dataclass(frozen=True, slots=True)
class Knobs:
    """What was chosen by hand, and why."""

    depth: float = 0.5  # how much worse it is to lose many at once: a blackout stops robots, one of four does not
    keep: float = 0.7  # a spare that runs is kept down to this share of what starting one must save: no to and fro
    most_spares: int = 4
    cold_s: float = 180.0  # cold start before any was seen
    ahead_s: float = 4 * HOUR_S  # a machine is placed for so long
    look_again_s: float = 60.0  # risks fall with age without any event


@dataclass(slots=True)
class Mean:
    """Of durations in seconds; recent ones weigh more."""

    value: float
    seen: int = 0

    def add(self, value: float) -> None:
        self.seen += 1
        self.value += (value - self.value) / min(self.seen, 20)


@dataclass(slots=True)
class ZoneBook:
    """What is known of one zone."""

    zone: Zone
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    spot: Room = field(default_factory=Room)
    on_demand: Room = field(default_factory=Room)
    held: int = 0  # spot machines that run, and are not told to go
    told: int = 0  # spot machines that run, and are told to go
    placed: int = 0  # spot replicas that count, ordered ones too
    lost_ns: int | None = None  # the last loss

    def room(self, market: Market) -> Room:
        return self.spot if market == "spot" else self.on_demand


@dataclass(slots=True)
class Census:
    """The pool's replicas by what they are good for. Leaving and doomed ones are not in it."""

    ready: list[Replica] = field(default_factory=list)  # spot
    warm: list[Replica] = field(default_factory=list)  # spot: the machine runs, its service does not answer (yet)
    ordered: list[Replica] = field(default_factory=list)  # spot: no machine yet
    od_ready: list[Replica] = field(default_factory=list)
    od_warm: list[Replica] = field(default_factory=list)
    od_ordered: list[Replica] = field(default_factory=list)

    @property
    def spot(self) -> int:
        return len(self.ready) + len(self.warm) + len(self.ordered)

    @property
    def on_demand(self) -> int:
        return len(self.od_ready) + len(self.od_warm) + len(self.od_ordered)

    @property
    def takes_requests(self) -> int:
        return len(self.ready) + len(self.od_ready)


class Skyfog:
    """The default placement."""

    def __init__(self, zones: Iterable[Zone], knobs: Knobs | None = None) -> None:
        self.knobs = knobs or Knobs()
        self.books = {zone.name: ZoneBook(zone) for zone in zones}
        self.contagion = Contagion()
        self.cold = {"spot": Mean(self.knobs.cold_s), "on_demand": Mean(self.knobs.cold_s)}
        self.budget: Budget | None = None
        self._level = 0  # the target, as far as it has been reached
        self._short = False
        self._seen_ns: int | None = None
        self._spares = (0, 0)  # beyond the target: spot, on demand
        self._spares_ns: int | None = None  # when that was judged

    # what happens

    def observe(self, event: MarketEvent, now_ns: int) -> None:
        """Learn from what happened."""
        book = self.books.get(event.zone)
        if book is None:
            return
        match event:
            case Noticed(kind="interruption"):
                book.told += 1
                self._lose(book, now_ns)
            case Lost(lived_ns=0):
                self._refused(book, "spot", now_ns)
            case Lost():
                if book.told > 0:
                    book.told -= 1  # counted when it was told
                else:
                    self._lose(book, now_ns)
            case LaunchFailed(market=market):
                self._refused(book, market, now_ns)
            case Started(market="spot"):
                book.held += 1
                book.spot.came(book.held)
            case Started(market="on_demand"):
                book.on_demand.ceiling = None
            case BecameReady(market=market, took_ns=took_ns):
                self.cold[market].add(took_ns / S)
            case _:
                pass

    def _lose(self, book: ZoneBook, now_ns: int) -> None:
        """The market takes a machine of the zone."""
        book.lifetimes.lose(max(1, book.held))
        book.held = max(0, book.held - 1)
        book.spot.shut(book.held, now_ns)
        book.lost_ns = now_ns

    def _refused(self, book: ZoneBook, market: Market, now_ns: int) -> None:
        if market == "spot":
            book.lifetimes.refuse(book.held + 1)
            book.spot.shut(book.held, now_ns)
        else:
            book.on_demand.shut(0, now_ns)

    # what to do

    def decide(self, view: View, now_ns: int) -> Plan:
        """What to start and what to retire."""
        census = self._learn(view, now_ns)
        base = min(view.config.base_ondemand_fallback_replicas, view.target) if view.use_spot else view.target
        return Round(self, view, census, base, now_ns).plan()

    def _learn(self, view: View, now_ns: int) -> Census:
        """Account for the time since the last look, then look."""
        if self.budget is None:
            self.budget = Budget(view.config.availability)
        seconds = 0.0 if self._seen_ns is None else (now_ns - self._seen_ns) / S
        self._seen_ns = now_ns
        if seconds > 0:
            self.budget.pass_time(seconds, self._short)
            for book in self.books.values():
                book.lifetimes.pass_time(seconds, book.held)
        census = self._count(view)
        ready = census.takes_requests
        self._level = view.target if ready >= view.target else min(view.target, self._level)
        self._short = ready < self._level
        return census

    def _count(self, view: View) -> Census:
        census = Census()
        for book in self.books.values():
            book.held = book.told = book.placed = 0
        for replica in view.replicas:
            if replica.market == "spot":
                book = self.books[replica.zone]
                if replica.started_ns is not None:
                    if replica.is_doomed:
                        book.told += 1
                    else:
                        book.held += 1
                if replica.counts:
                    book.placed += 1
                    if replica.is_ready:
                        census.ready.append(replica)
                    elif replica.started_ns is not None:
                        census.warm.append(replica)
                    else:
                        census.ordered.append(replica)
            elif replica.counts:
                if replica.is_ready:
                    census.od_ready.append(replica)
                elif replica.started_ns is not None:
                    census.od_warm.append(replica)
                else:
                    census.od_ordered.append(replica)
        return census


class Round:
    """One decision. It changes nothing but the placement's memory of how many spares it holds."""

    def __init__(self, placement: Skyfog, view: View, census: Census, base: int, now_ns: int) -> None:
        self.me, self.view, self.census, self.base, self.now_ns = placement, view, census, base, now_ns
        self.knobs = placement.knobs
        self.slots = view.target - base  # of the target, for spot to fill
        self.open = {
            name: price.spot
            for name, price in view.prices.items()
            if name in placement.books and math.isfinite(price.spot)
        }
        self.od_price, self.od_zone = self._cheapest_on_demand()
        assert placement.budget is not None
        cheapest = min(self.open.values(), default=self.od_price)
        self.second_usd = placement.budget.worth(cheapest)
        self.event_usd = self.second_usd * placement.cold["spot"].value  # of one loss that is not covered
        most = max(self.slots, 1) + self.knobs.most_spares
        self.hazards = {name: placement.books[name].lifetimes.hazards(most) for name in self.open}
        ahead_s = self.knobs.ahead_s
        self.ahead = {name: placement.books[name].lifetimes.hazards(most, ahead_s) for name in self.open}
        self.start: list[Start] = []
        self.retire: list[Retire] = []

    def plan(self) -> Plan:
        held = {name: 0 for name in self.open}
        for replica in (*self.census.ready, *self.census.warm, *self.census.ordered):
            if replica.zone in held:
                held[replica.zone] += 1
        me = self.me
        if me._spares_ns is None or self.now_ns - me._spares_ns >= self.knobs.look_again_s * S:
            me._spares, me._spares_ns = self._spares(dict(held)), self.now_ns
        spot_spares, od_spares = me._spares
        self._spot(held, spot_spares)
        self._on_demand(od_spares)
        again_ns = self.now_ns + round(self.knobs.look_again_s * S)
        return Plan(tuple(self.start), tuple(self.retire), again_ns)

    # risk

    def _risk(self, held: dict[str, int], spare: int, hazards: dict[str, list[float]] | None = None) -> float:
        """Losses an hour that bring the pool below its target, deep ones weighing more."""
        hazards = hazards or self.hazards
        total = rate = 0.0
        for name, count in held.items():
            if count == 0:
                continue
            hazard = hazards[name]
            rate += hazard[count]
            if count > spare:
                total += hazard[count - spare]
                for left in range(count - spare):
                    missing = count - left - spare
                    total += (hazard[left + 1] - hazard[left]) * self.knobs.depth * missing * missing / self.slots
        if spare:
            total += rate * rate * self.me.cold["spot"].value / HOUR_S  # another before the first is replaced
        return total

    def _best(self, held: dict[str, int], spare: int, names: Iterable[str], hazards: dict[str, list[float]] | None = None) -> tuple[float, str] | None:
        """Cost an hour of the pool's risk and one more machine, where it is least."""
        best: tuple[float, int, str] | None = None
        for name in names:
            held[name] += 1
            usd = self.open[name] + self.event_usd * self._risk(held, spare, hazards)
            held[name] -= 1
            if best is None or (usd, held[name], name) < best:
                best = usd, held[name], name
        return None if best is None else (best[0], best[2])

    def _worst(self, held: dict[str, int]) -> str:
        """Where one machine fewer saves most."""

        def left_usd(name: str) -> tuple[float, int, str]:
            held[name] -= 1
            usd = self.event_usd * self._risk(held, 0) - self.open[name]
            held[name] += 1
            return usd, -held[name], name

        return min((name for name in held if held[name]), key=left_usd)

    def _spares(self, held: dict[str, int]) -> tuple[int, int]:
        """How many to hold beyond the target: spot, on demand."""
        fixed = self.view.config.num_overprovision
        if self.slots <= 0:
            return 0, 0
        if fixed is not None:
            return fixed, 0
        while sum(held.values()) > self.slots:  # judge the pool as it is without spares
            held[self._worst(held)] -= 1
        admitted = [
            name for name in self.open if self.me.books[name].spot.admits(self.me.books[name].placed, self.now_ns)
        ]
        spot = on_demand = 0
        usd, least, choice = 0.0, self.event_usd * self._risk(held, 0), (0, 0)
        running = sum(self.me._spares)
        can_od = self.view.config.dynamic_ondemand_fallback and math.isfinite(self.od_price)
        for spare in range(1, min(self.knobs.most_spares, self.slots) + 1):
            share = self.knobs.keep if spare <= running else 1.0
            best = self._best(held, spare, admitted)
            od_usd = self.od_price + self.event_usd * self._risk(held, spare) if can_od else math.inf
            if best is not None and best[0] <= od_usd:
                spot, usd = spot + 1, usd + self.open[best[1]] * share
                held[best[1]] += 1
            elif can_od:
                on_demand, usd = on_demand + 1, usd + self.od_price * share
            else:
                break
            total = usd + self.event_usd * self._risk(held, spare)
            if total < least:
                least, choice = total, (spot, on_demand)
        return choice

    # spot

    def _spot(self, held: dict[str, int], spares: int) -> None:
        """Order what is missing, cancel and retire what is too much."""
        wanted = self.slots + spares
        placed = {name: self.me.books[name].placed for name in self.open}
        total = self.census.spot
        while total < wanted:
            names = [
                name
                for name in self.open
                if self.open[name] < self.od_price and self.me.books[name].spot.admits(placed[name], self.now_ns)
            ]
            best = self._best(held, max(0, total + 1 - self.slots), names, self.ahead)
            if best is None:
                break
            name = best[1]
            held[name] += 1
            placed[name] += 1
            total += 1
            self.start.append(Start(name, "spot", "below target" if total <= self.slots else "spare"))
        surplus = total - wanted
        for replica in reversed(self.census.ordered):
            if surplus > 0:
                surplus -= 1
                self.retire.append(Retire(replica.id, "not needed any more"))
        ready = self.census.takes_requests
        for replica in sorted((*self.census.warm, *self.census.ready), key=lambda r: (r.is_ready, -self.open.get(r.zone, math.inf), r.id)):
            if surplus > 0 and (not replica.is_ready or ready > self.view.target):
                surplus -= 1
                ready -= replica.is_ready
                self.retire.append(Retire(replica.id, "more than needed"))
        self.ready_left = ready

    # on demand

    def _cheapest_on_demand(self) -> tuple[float, str]:
        offers = [
            (price.on_demand, name)
            for name, price in self.view.prices.items()
            if name in self.me.books and self.me.books[name].on_demand.admits(0, self.now_ns)
        ]
        return min(offers, default=(math.inf, ""))

    def _on_demand(self, spares: int) -> None:
        census = self.census
        cover = len(census.ready) + len(census.warm)
        if not self.me._short:  # an order in a zone where nothing was refused will come, and there is time
            cover += sum(self.me.books[replica.zone].spot.trusted(self.me.books[replica.zone].placed) for replica in census.ordered)
            cover += sum(start.market == "spot" for start in self.start)
        wanted = self.base
        if self.view.config.dynamic_ondemand_fallback:
            wanted += max(0, self.slots - cover) + spares
        missing = wanted - census.on_demand
        if math.isfinite(self.od_price):
            self.start += [Start(self.od_zone, "on_demand", "stands in for spot")] * max(0, missing)
        surplus = -missing
        for replica in (*reversed(census.od_ordered), *reversed(census.od_warm), *reversed(census.od_ready)):
            if surplus <= 0:
                break
            if replica.is_ready:
                if self.ready_left <= self.view.target:
                    break
                self.ready_left -= 1
            surplus -= 1
            self.retire.append(Retire(replica.id, "spot is ready"))
