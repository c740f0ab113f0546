"""Our default placement: least expected cost, with a price on every second below the target.

    what a second below target costs   `allowance`: dearer where the service is below target for more than it allows
    how soon machines will be lost     `lifetime`: per zone and number held; and what a loss says of other machines
    where machines are to be had       `room`: refusals, and when to ask again
    how long a replacement takes       the mean of the cold starts seen
    what it all comes to               `risk`

Every minute, and when something happened, it judges how many spot machines to want, spares among them, and how many
on-demand machines to hold beyond those that stand in for missing spot. A loss, or the notice of one, is answered at
once: spot is asked for where it is likely, and on demand besides; whichever order is not needed is cancelled before it
costs much. After a loss the machines beside it are the next to go: their replacements start before that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.units import S
from skyfog_pool.policy.allowance import Allowance
from skyfog_pool.policy.census import Census, count
from skyfog_pool.policy.lifetime import AT_ONCE_S, HOUR_S, WINDOW_S, Contagion, Lifetimes
from skyfog_pool.policy.market import (
    BecameReady,
    LaunchFailed,
    Lost,
    Market,
    MarketEvent,
    Noticed,
    Started,
    Zone,
)
from skyfog_pool.policy.risk import Risk
from skyfog_pool.policy.room import Room
from skyfog_pool.policy.view import Plan, Replica, Retire, Start, View

JUDGE_NS = 60 * S  # risks fall with age, without any event
KEEP = 0.9  # see Risk.spares
MOST_SPARES = 4
COLD_S = 183.0  # cold start before one was seen: SkyServe's (arXiv 2411.01438, section 5)
AHEAD_S = 4 * HOUR_S  # a machine is placed, and moved, for about so long
MOVE_GAIN = 0.1  # a move must save so much of the machine's price beyond what it costs
SLOW_FROM = 0.5  # a zone whose latency passes so much of the SLO counts as dearer, in proportion
STRAIN_MOST = 3.0  # with requests over the SLO already, a second below target counts up to so many times


@dataclass(slots=True)
class Mean:
    """Of durations in seconds; the last twenty weigh most."""

    value: float
    seen: int = 0

    def add(self, value: float) -> None:
        self.seen = min(self.seen + 1, 20)
        self.value += (value - self.value) / self.seen


@dataclass(slots=True)
class ZoneBook:
    """What is known of one zone."""

    zone: Zone
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    spot: Room = field(default_factory=Room)
    on_demand: Room = field(default_factory=Room)
    held: int = 0  # spot machines that run, and are not told to go
    told: int = 0  # spot machines that run, and are told to go
    aged_ns: int | None = None  # up to when its lifetimes know the time
    lost_ns: int | None = None  # the first of the last losses that came at once
    watched: bool = True  # what follows on it is being counted

    def room(self, market: Market) -> Room:
        return self.spot if market == "spot" else self.on_demand

    def age(self, now_ns: int) -> None:
        """Let the time pass in which `held` machines ran."""
        if self.aged_ns is not None and now_ns > self.aged_ns:
            self.lifetimes.pass_time((now_ns - self.aged_ns) / S, self.held, self.spot.ceiling is None)
        self.aged_ns = now_ns


class Skyfog:
    """The default placement."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        self.books = {zone.name: ZoneBook(zone) for zone in zones}
        self.contagion = Contagion()
        self.cold = Mean(COLD_S)
        self.allowance: Allowance | None = None  # from the first decision on
        self.wanted = 0  # spot replicas
        self.od_spares = 0  # on-demand replicas beyond those that stand in
        self.moving: int | None = None  # the replica that is to move to a better zone
        self.is_short = False  # below a target that was reached before
        self._level = 0  # the target, as far as it has been reached
        self._seen_ns: int | None = None
        self._judged: tuple[int, int] | None = None  # when, and for which target; none: something happened

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
                self._refuse(book, "spot", now_ns)
            case Lost():
                if book.told > 0:
                    book.told -= 1  # counted when it was told
                else:
                    self._lose(book, now_ns)
            case LaunchFailed(market=market):
                self._refuse(book, market, now_ns)
            case Started(market=market):
                book.age(now_ns)
                if market == "spot":
                    book.held += 1
                    book.spot.came(book.held)
                else:
                    book.on_demand.came(1)
            case BecameReady(took_ns=took_ns):
                self.cold.add(took_ns / S)
            case _:
                return
        self._judged = None

    def _lose(self, book: ZoneBook, now_ns: int) -> None:
        """The market takes a machine of the zone."""
        book.age(now_ns)
        book.lifetimes.lose(max(1, book.held))
        book.held = max(0, book.held - 1)
        book.spot.shut(book.held, now_ns)
        if book.lost_ns is not None and now_ns - book.lost_ns <= AT_ONCE_S * S:
            return
        for other in self.books.values():
            if other.watched and other.lost_ns is not None and now_ns - other.lost_ns <= WINDOW_S * S:
                self.contagion.follow(other.zone.name, book.zone.name)
        book.lost_ns, book.watched = now_ns, False

    def _refuse(self, book: ZoneBook, market: Market, now_ns: int) -> None:
        """A machine was not to be had."""
        if market == "spot":
            book.age(now_ns)
            book.lifetimes.refuse(book.held + 1)
            self.moving = None
        book.room(market).shut(book.held if market == "spot" else 0, now_ns)

    # what to do

    def decide(self, view: View, now_ns: int) -> Plan:
        """What to start and what to retire."""
        census = self._learn(view, now_ns)
        this = Round(self, view, census, now_ns)
        if self._judged is None or self._judged[1] != view.target or now_ns - self._judged[0] >= JUDGE_NS:
            self._judged = now_ns, view.target
            this.judge()
        this.fill_spot()
        this.fill_on_demand()
        return Plan(tuple(this.start), tuple(this.retire), self._judged[0] + JUDGE_NS)

    def _learn(self, view: View, now_ns: int) -> Census:
        """Account for the time since the last look, then look."""
        if self.allowance is None:
            self.allowance = Allowance(view.config.availability)
        self.allowance.allowed = 1.0 - view.config.availability
        if self._seen_ns is not None and now_ns > self._seen_ns:
            self.allowance.pass_time((now_ns - self._seen_ns) / S, self.is_short)
        self._seen_ns = now_ns
        census = count(view.replicas, self.moving)
        if self.moving is not None and all(replica.id != self.moving for replica in census.at_risk):
            self.moving = None
        for name, book in self.books.items():
            held = census.held.get(name, 0)
            if held != book.held or self._judged is None or now_ns - self._judged[0] >= JUDGE_NS:
                book.age(now_ns)
            book.held, book.told = held, census.told.get(name, 0)
        for book in self.books.values():
            if not book.watched and book.lost_ns is not None and now_ns - book.lost_ns > AT_ONCE_S * S:
                book.watched = True
                self.contagion.watch(book.zone.name, census.held)
        ready = census.takes_requests
        self._level = view.target if ready >= view.target else min(view.target, self._level)
        self.is_short = ready < self._level
        return census

    # over a restart

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """What it has learnt, as plain data for JSON; times as ages."""
        zones = {}
        for name, book in self.books.items():
            book.age(now_ns)
            zones[name] = {
                "slots": book.lifetimes.snapshot(),
                "spot": book.spot.snapshot(now_ns),
                "on_demand": book.on_demand.snapshot(now_ns),
                "lost_s": None if book.lost_ns is None else (now_ns - book.lost_ns) / S,
            }
        return {
            "zones": zones,
            "contagion": self.contagion.snapshot(),
            "cold": [self.cold.value, self.cold.seen],
            "care": None if self.allowance is None else self.allowance.care,
            "wanted": [self.wanted, self.od_spares, self._level],
        }

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        """Take up what `snapshot` gave. Zones that are unknown now are skipped."""
        for name, of in state["zones"].items():
            book = self.books.get(name)
            if book is None:
                continue
            book.lifetimes.restore(of["slots"])
            book.spot.restore(of["spot"], now_ns)
            book.on_demand.restore(of["on_demand"], now_ns)
            book.lost_ns = None if of["lost_s"] is None else now_ns - round(of["lost_s"] * S)
        self.contagion.restore(state["contagion"])
        self.cold = Mean(*state["cold"])
        if state["care"] is not None:
            self.allowance = Allowance(0.5)  # its share is set by the next decision
            self.allowance.care = state["care"]
        self.wanted, self.od_spares, self._level = state["wanted"]


class Round:
    """One decision."""

    def __init__(self, placement: Skyfog, view: View, census: Census, now_ns: int) -> None:
        self.me, self.view, self.census, self.now_ns = placement, view, census, now_ns
        config = view.config
        self.base = min(config.base_ondemand_fallback_replicas, view.target) if view.use_spot else view.target
        self.slots = view.target - self.base  # of the target, for spot to fill
        self.start: list[Start] = []
        self.retire: list[Retire] = []
        self.ready_left = census.takes_requests  # once what is retired is gone
        self.od_price, self.od_zone = self._on_demand_offer()
        self.prices = {
            zone: price.spot * self._slowness(zone)
            for zone, price in view.prices.items()
            if zone in placement.books and price.spot < self.od_price and math.isfinite(price.spot)
        }
        self._risk: Risk | None = None
        self._ahead: Risk | None = None

    def _on_demand_offer(self) -> tuple[float, str]:
        """The cheapest that was not refused just now; else the cheapest."""
        offers = [
            (not self.me.books[zone].on_demand.admits(0, self.now_ns), price.on_demand, zone)
            for zone, price in self.view.prices.items()
            if zone in self.me.books and math.isfinite(price.on_demand)
        ]
        return min(offers, default=(True, math.inf, ""))[1:]

    def _slowness(self, zone: str) -> float:
        """From 1 on: how much dearer the zone counts for its latency, as robots see it."""
        slo_ms = self.view.config.slo_ms
        seen = [each.latency_ms for each in self.view.replicas if each.zone == zone and each.latency_ms is not None]
        if slo_ms is None or not seen:
            return 1.0
        return 1.0 + max(0.0, sum(seen) / len(seen) / slo_ms - SLOW_FROM)

    # what is wanted

    def judge(self) -> None:
        """How many spot replicas, how many on-demand spares, and whether a replica is better off elsewhere."""
        me, config = self.me, self.view.config
        held = self.census.by_zone()
        if self.slots == 0:
            me.wanted = me.od_spares = 0
            return
        running = max(0, me.wanted - self.slots) + me.od_spares
        risk, zones = self.risk, self._admitted(self.census.placed)
        here = {zone: number for zone, number in held.items() if zone in self.prices}
        spares = config.num_overprovision, 0
        if config.num_overprovision is None:
            spares = risk.spares(risk.trimmed(here), zones, min(MOST_SPARES, self.slots), running, KEEP)
        me.wanted, me.od_spares = self.slots + (spares[0] or 0), spares[1]
        if self.census.spot < self.slots and self.census.od_ready:
            if not risk.pays_to_move(here, zones):
                me.wanted = self.census.spot + (me.od_spares == 0)  # one shows how the zone stands
        elif not me.is_short and me.moving is None and not (self.census.warm or self.census.ordered):
            me.moving = self._better_elsewhere(here)

    @property
    def risk(self) -> Risk:
        """Now, with what the last losses say."""
        if self._risk is None:
            self._risk = self._risk_of(0.0)
        return self._risk

    @property
    def ahead(self) -> Risk:
        """On average over the time for which a machine is placed."""
        if self._ahead is None:
            self._ahead = self._risk_of(AHEAD_S)
        return self._ahead

    def _risk_of(self, ahead_s: float) -> Risk:
        me, config = self.me, self.view.config
        most = self.slots + MOST_SPARES + (config.num_overprovision or 0) + len(self.view.replicas)
        hazards = {zone: me.books[zone].lifetimes.hazards(most, ahead_s) for zone in self.prices}
        if ahead_s == 0.0:
            for sick in me.books.values():
                if sick.lost_ns is None or self.now_ns - sick.lost_ns > WINDOW_S * S:
                    continue
                for zone, rates in hazards.items():
                    more = me.contagion.chance(sick.zone, me.books[zone].zone) * HOUR_S / WINDOW_S
                    hazards[zone] = [rates[0], *(rate + more for rate in rates[1:])]
        assert me.allowance is not None
        second_usd = me.allowance.second_usd(min(self.prices.values(), default=0.0)) * self._strain()
        od_price = self.od_price if config.dynamic_ondemand_fallback else math.inf
        cold_s = me.cold.value
        return Risk(self.prices, od_price, hazards, second_usd * cold_s, cold_s / HOUR_S, max(1, self.slots))

    def _strain(self) -> float:
        """From 1 on: a service that misses its SLO already can spare less."""
        load, config = self.view.load, self.view.config
        if load is None or load.over_slo is None or config.slo_ms is None:
            return 1.0
        return min(STRAIN_MOST, max(1.0, load.over_slo / (1.0 - config.slo_target)))

    def _admitted(self, placed: Mapping[str, int]) -> list[str]:
        """Zones where a spot machine may be asked for now; those at risk only where there is no other."""
        zones = [z for z in self.prices if self.me.books[z].spot.admits(placed.get(z, 0), self.now_ns)]
        risky = {replica.zone for replica in self.census.at_risk}
        return [zone for zone in zones if zone not in risky]

    def _better_elsewhere(self, held: dict[str, int]) -> int | None:
        """A replica whose move to another zone saves more than it costs: two machines for a cold start."""
        risk = self.ahead
        zone = risk.worst(held)
        if zone is None:
            return None
        spares = max(0, sum(held.values()) - self.slots)
        left = {**held, zone: held[zone] - 1}
        to = risk.best(left, spares, [name for name in self._admitted(self.census.placed) if name != zone])
        if to is None or self.me.books[to].spot.ceiling is not None:
            return None
        moved = {**left, to: left.get(to, 0) + 1}
        gain = self.prices[zone] + risk.usd(held, spares) - self.prices[to] - risk.usd(moved, spares)
        if gain <= self.prices[zone] * (risk.cold_h * HOUR_S / AHEAD_S + MOVE_GAIN):
            return None
        return max(replica.id for replica in self.census.ready if replica.zone == zone)

    # spot

    def fill_spot(self) -> None:
        """Order what is missing, cancel and retire what is too much."""
        held, placed = self.census.by_zone(), dict(self.census.placed)
        total, wanted = self.census.spot, self.me.wanted
        while total < wanted:
            zone = self.ahead.best(
                {name: number for name, number in held.items() if name in self.prices},
                max(0, total + 1 - self.slots),
                self._admitted(placed),
            )
            if zone is None:
                break
            held[zone] = held.get(zone, 0) + 1
            placed[zone] = placed.get(zone, 0) + 1
            total += 1
            self.start.append(Start(zone, "spot", self._why(zone, total)))
        surplus = total - wanted
        for replica in reversed(self.census.ordered):
            if surplus > 0:
                surplus -= 1
                self.retire.append(Retire(replica.id, "cancelled before it came: enough others did"))
        for replica in self._goers(surplus):
            self._let_go(replica, "more spot machines than the risk asks for")
        if len(self.census.ready) + len(self.census.warm) >= wanted:
            for replica in self.census.at_risk:
                because = "moved to a better zone" if replica.id == self.me.moving else "at risk, and replaced"
                self._let_go(replica, because)

    def _why(self, zone: str, number: int) -> str:
        price = f"{self.view.prices[zone].spot:.3f} USD/h"
        if number > self.slots:
            return f"spare: cheaper than the time below target that it saves; {price}"
        if self.census.at_risk:
            return f"takes the place of a replica at risk; {price}"
        return f"below target; least price and risk: {price}"

    def _goers(self, number: int) -> list[Replica]:
        """Spot machines to give up: first those that are not ready, where they cost and risk most, the youngest."""
        goers: list[Replica] = []
        held = {zone: count for zone, count in self.census.by_zone().items() if zone in self.prices}
        left = [*self.census.warm, *self.census.ready]
        while left and len(goers) < number:
            first = [each for each in left if not each.is_ready] or left
            zone = self.ahead.worst({name: held[name] for name in held if any(each.zone == name for each in first)})
            among = [each for each in first if zone is None or each.zone == zone]
            goer = max(among, key=lambda each: (each.launched_ns, each.id))
            left.remove(goer)
            goers.append(goer)
            if goer.zone in held:
                held[goer.zone] -= 1
        return goers

    def _let_go(self, replica: Replica, because: str) -> bool:
        """Retire it, unless that would leave too few ready."""
        if replica.is_ready:
            if self.ready_left <= self.view.target:
                return False
            self.ready_left -= 1
        self.retire.append(Retire(replica.id, because))
        return True

    # on demand

    def fill_on_demand(self) -> None:
        """Order what stands in for spot that is not there, retire what is too much."""
        census = self.census
        cover = len(census.ready) + len(census.warm) + len(census.at_risk)
        if not self.me.is_short:  # there is time; and an order where nothing was refused will come
            books = self.me.books
            cover += sum(books[each.zone].spot.trusted(census.placed[each.zone]) for each in census.ordered)
            cover += sum(books[each.zone].spot.ceiling is None for each in self.start)
        wanted = self.base
        if self.view.config.dynamic_ondemand_fallback or not self.prices:
            wanted += max(0, self.slots - cover) + self.me.od_spares
        because = "always on demand, as the spec says" if wanted <= self.base else "stands in for spot"
        if self.od_zone:
            self.start += [Start(self.od_zone, "on_demand", because)] * max(0, wanted - census.on_demand)
        surplus = census.on_demand - wanted
        for replica in (*reversed(census.od_ordered), *reversed(census.od_warm), *reversed(census.od_ready)):
            if surplus > 0 and self._let_go(replica, "spot is there again"):
                surplus -= 1
