"""Which gateway a car talks to: a live one, and the same for as long as it answers.

    nobody --token--------------------------------------> the lowest name
    one    --its token goes-----------------------------> the lowest name that is left, or nobody
    one    --silent, and another one answers a probe----> that one
    one    --silent for longer, and nobody answers------> nobody, and the links are made anew

A gateway may hold its token and be frozen, and a link may be cut for all of them alike. So nobody is left for being
silent alone: the others are asked first, and whoever answers is taken. Where nobody does it is an outage, and what TCP
has learnt in it is to wait longer and longer: a new link knows nothing of that.
"""

from __future__ import annotations

from dataclasses import dataclass

PROBES = 4  # in the time after which a gateway counts as silent
RENEW = 2  # times that time, after which the links are made anew


@dataclass(frozen=True, slots=True)
class Turn:
    """Talk to this one from now on; None: there is nobody."""

    gateway: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask this one for a sign of life."""

    gateway: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Leave the network and join it anew; no token that was seen counts any more."""


Do = Turn | Probe | Renew


class Gateways:
    """Pure; every event returns what to do."""

    def __init__(self, silent_ns: int) -> None:
        self._silent_ns = silent_ns
        self._live: set[str] = set()
        self._current: str | None = None
        self._waits_ns: int | None = None  # since when the current one owes an answer
        self._due_ns: int | None = None

    def on_token(self, gateway: str, live: bool) -> list[Do]:
        """A gateway came or went."""
        (self._live.add if live else self._live.discard)(gateway)
        if live and self._current is None:
            return self._turn(gateway, "it is there")
        if not live and self._current == gateway:
            return self._turn(min(self._live, default=None), f"{gateway} is gone")
        return []

    def on_sent(self, now_ns: int) -> None:
        """Something that is to be acknowledged went to the current one."""
        if self._waits_ns is None and self._current is not None:
            self._waits_ns, self._due_ns = now_ns, now_ns + self._silent_ns

    def on_heard(self, gateway: str, now_ns: int) -> list[Do]:
        """A gateway said something."""
        if gateway == self._current:
            self._waits_ns = self._due_ns = None
        elif self._silent(now_ns) and gateway in self._live:
            return self._turn(gateway, f"{self._current} is silent")
        return []

    def on_timer(self, now_ns: int) -> list[Do]:
        """Ask the others while the current one is silent; make the links anew when all of them are."""
        if self._waits_ns is None or self._due_ns is None or now_ns < self._due_ns:
            return []
        if now_ns - self._waits_ns >= RENEW * self._silent_ns:
            self._live.clear()
            return [*self._turn(None, f"{self._current} is silent, and nobody else is there"), Renew()]
        self._due_ns = now_ns + self._silent_ns // PROBES
        return [Probe(gateway) for gateway in sorted(self._live) if gateway != self._current]

    def next_timer_ns(self) -> int | None:
        """When `on_timer` is due."""
        return self._due_ns

    def _silent(self, now_ns: int) -> bool:
        return self._waits_ns is not None and now_ns - self._waits_ns >= self._silent_ns

    def _turn(self, gateway: str | None, why: str) -> list[Do]:
        self._current, self._waits_ns, self._due_ns = gateway, None, None
        return [Turn(gateway, why)]
