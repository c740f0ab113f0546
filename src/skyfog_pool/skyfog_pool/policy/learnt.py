"""What the placement `skyfog` has learnt: of zones, of cold starts, and of how much of the time it was below target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.units import S
from skyfog_pool.policy.allowance import Allowance
from skyfog_pool.policy.census import Census
from skyfog_pool.policy.lifetime import AT_ONCE_S, WINDOW_S, Contagion, Lifetimes
from skyfog_pool.policy.market import BecameReady, LaunchFailed, Lost, Market, MarketEvent, Noticed, Started, Zone
from skyfog_pool.policy.room import Room

GAP_LEAST = 0.1  # of the cold start: whatever was told before, a start may be slow
COLD_S = 183.0  # cold start before one was seen: SkyServe's (arXiv 2411.01438, section 5)

SILENT_NS = 300 * S  # nothing is placed for so long in a zone that was silent as a whole
LATENCY_NS = 86_400 * S  # a zone's latency is remembered for so long after its last replica
AGE_NS = 60 * S  # lifetimes are brought up to date so often, and when something happens


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

    latency_ms: float | None = None  # as robots saw its replicas, and when last
    latency_ns: int = 0

    silent_ns: int | None = None  # when replicas there were last silent, and none answered

    def is_silent(self, now_ns: int) -> bool:
        """Its replicas fell silent together a moment ago: cut off, whatever its market offers."""
        return self.silent_ns is not None and now_ns - self.silent_ns < SILENT_NS

    def room(self, market: Market) -> Room:
        return self.spot if market == "spot" else self.on_demand

    def belief(self) -> str:
        """For people: what a spot machine there may hope for."""
        hours = 1.0 / max(1e-3, self.lifetimes.hazards(1)[1])
        life = f"a loss in {hours:.1f} h" if hours < 10.0 else f"a loss in {hours:.0f} h"
        return life if self.spot.ceiling is None else f"{life}, room for {self.spot.ceiling}"

    def age(self, now_ns: int) -> None:
        """Let the time pass in which `held` machines ran."""
        if self.aged_ns is not None and now_ns > self.aged_ns:
            self.lifetimes.pass_time((now_ns - self.aged_ns) / S, self.held, self.spot.ceiling is None)
        self.aged_ns = now_ns


class Learnt:
    """All of it. Events come first, then `look` at the pool they left behind."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        self.books = {zone.name: ZoneBook(zone) for zone in zones}
        self.contagion = Contagion()
        self.cold = Mean(COLD_S)
        self.serves = Mean(0.0)  # on after the notice that its machine is lost; none: 0
        self.allowance: Allowance | None = None  # from the first look on
        self.is_short = False  # below a target that was reached before, or soon to be
        self._is_below = False  # now
        self._level = 0  # the target, as far as it has been reached
        self._seen_ns: int | None = None

    @property
    def gap_s(self) -> float:
        """From when a lost replica stops to when its replacement is ready."""
        return max(GAP_LEAST * self.cold.value, self.cold.value - self.serves.value)

    def know(self, zones: Iterable[Zone]) -> None:
        """Zones may come with a new spec."""
        for zone in zones:
            if zone.name not in self.books:
                self.books[zone.name] = ZoneBook(zone)

    def observe(self, event: MarketEvent, now_ns: int) -> bool:
        """Learn from what happened. Returns whether it changes what is to be expected."""
        book = self.books.get(event.zone)
        if book is None:
            return False
        match event:
            case Noticed(kind="interruption", serves_ns=serves_ns):
                book.told += 1
                self.serves.add(serves_ns / S)
                self._lose(book, now_ns)
            case Lost(lived_ns=0):
                self._refuse(book, "spot", now_ns)
            case Lost():
                if book.told > 0:
                    book.told -= 1  # counted when it was told
                else:
                    self.serves.add(0.0)
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
                return isinstance(event, Noticed)
        return True

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
        book.room(market).shut(book.held if market == "spot" else 0, now_ns)

    def look(self, census: Census, target: int, availability: float, now_ns: int) -> None:
        """Account for the time since the last look."""
        if self.allowance is None:
            self.allowance = Allowance(availability)
        self.allowance.allow(availability)
        if self._seen_ns is not None and now_ns > self._seen_ns:
            self.allowance.pass_time((now_ns - self._seen_ns) / S, self._is_below)
        self._seen_ns = now_ns
        for name, book in self.books.items():
            if book.held != census.held.get(name, 0) or book.aged_ns is None or now_ns - book.aged_ns >= AGE_NS:
                book.age(now_ns)
            book.held, book.told = census.held.get(name, 0), census.told.get(name, 0)
        for name, seen_ms in census.latency_ms.items():
            self.books[name].latency_ms, self.books[name].latency_ns = sum(seen_ms) / len(seen_ms), now_ns
        for book in self.books.values():
            if not book.watched and book.lost_ns is not None and now_ns - book.lost_ns > AT_ONCE_S * S:
                book.watched = True
                self.contagion.watch(book.zone.name, census.held)
        ready = census.takes_requests
        self._level = target if ready >= target else min(target, self._level)
        self.is_short, self._is_below = ready < self._level, ready + census.serving_on < self._level

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """Plain data for JSON; times as ages."""
        zones = {}
        for name, book in self.books.items():
            book.age(now_ns)
            zones[name] = {
                "slots": book.lifetimes.snapshot(),
                "spot": book.spot.snapshot(now_ns),
                "on_demand": book.on_demand.snapshot(now_ns),
                "lost_s": None if book.lost_ns is None else (now_ns - book.lost_ns) / S,
                "latency": [book.latency_ms, (now_ns - book.latency_ns) / S],
            }
        return {
            "zones": zones,
            "contagion": self.contagion.snapshot(),
            "cold": [self.cold.value, self.cold.seen],
            "serves": [self.serves.value, self.serves.seen],
            "care": None if self.allowance is None else self.allowance.care,
            "level": self._level,
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
            book.latency_ms, book.latency_ns = of["latency"][0], now_ns - round(of["latency"][1] * S)
            book.lost_ns = None if of["lost_s"] is None else now_ns - round(of["lost_s"] * S)
        self.contagion.restore(state["contagion"])
        self.cold = Mean(*state["cold"])
        self.serves = Mean(*state["serves"])
        if state["care"] is not None:
            self.allowance = Allowance(0.5)  # its share is set by the next look
            self.allowance.care = state["care"]
        self._level = state["level"]
