"""Fleets and routers for tests of the policies: made in a line, and taught how long their replicas take."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import LinkLost, NotExecuted, RequestError
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import NO_LOAD, Action, Load, Send
from skyfog_router.policy.fleet import Fleet
from skyfog_router.policy.replica import Replica
from skyfog_router.policy.router import Router

LOST = LinkLost("ended")
FULL = NotExecuted("full")


def key(name: str) -> ReplicaKey:
    """`a/0`."""
    zone, _, replica = name.partition("/")
    return ReplicaKey(zone, replica)


def fleet_of(*names: str, zone: str = "", seed: int = 0, **config: Any) -> Fleet:
    """A fleet of one capacity each."""
    fleet = Fleet(RoutingConfig(**config), zone, Random(seed))
    for name in names:
        fleet.join(key(name), Announcement(), 0)
    return fleet


class Taught:
    """Tells a fleet of answers, one request after the other."""

    def __init__(self, fleet: Fleet, now_ns: int = 0) -> None:
        self.fleet, self.now_ns, self._ids = fleet, now_ns, 0

    def ask(self, name: str) -> bytes:
        self._ids += 1
        request_id = self._ids.to_bytes(16, "big")
        self.fleet.on_sent(key(name), request_id, self.now_ns)
        return request_id

    def answers(self, name: str, took_ms: float, times: int = 1, load: Load = NO_LOAD) -> list[Action]:
        actions: list[Action] = []
        for _ in range(times):
            request_id = self.ask(name)
            self.now_ns += round(took_ms * MS)
            actions += self.fleet.on_answer(key(name), request_id, load, self.now_ns)
        return actions

    def fails(self, name: str, times: int = 1) -> list[Action]:
        actions: list[Action] = []
        for _ in range(times):
            request_id = self.ask(name)
            self.now_ns += MS
            actions += self.fleet.on_failed(key(name), request_id, "broken", NO_LOAD, self.now_ns)
        return actions

    def given_up(self, name: str, waited_ms: float, times: int = 1) -> list[Action]:
        actions: list[Action] = []
        for _ in range(times):
            request_id = self.ask(name)
            self.now_ns += round(waited_ms * MS)
            actions += self.fleet.on_given_up(key(name), request_id, self.now_ns)
        return actions

    def passes(self, ms: float) -> list[Action]:
        self.now_ns += round(ms * MS)
        return self.fleet.look(self.now_ns)

    def __getitem__(self, name: str) -> Replica:
        return self.fleet.replicas[key(name)]


class Talk:
    """A router, its requests by number, and the time. Without extra load there are no copies on trial."""

    def __init__(self, *names: str, zone: str = "", seed: int = 0, **config: Any) -> None:
        self.router = Router(RoutingConfig(**{"deadline_ms": 1_000, "extra_load": 0.0, **config}), zone, seed)
        self.now_ns, self.calls = 0, 0
        for name in names:
            self.join(name)

    def join(self, name: str, **said: Any) -> list[Action]:
        return self.router.on_join(key(name), Announcement(**said), self.now_ns)

    def leave(self, name: str, **said: Any) -> list[Action]:
        return self.router.on_leave(key(name), Announcement(**said), self.now_ns)

    def call(self, affinity: bytes = b"") -> list[Action]:
        self.calls += 1
        return self.router.on_call(self.id, self.now_ns, affinity)

    @property
    def id(self) -> bytes:
        """Of the last call."""
        return self.calls.to_bytes(16, "big")

    def reply(self, name: str, response: Any = "r", load: Load = NO_LOAD, request_id: bytes = b"") -> list[Action]:
        return self.router.on_reply(request_id or self.id, key(name), response, self.now_ns, load)

    def error(self, name: str, error: RequestError, load: Load = NO_LOAD, request_id: bytes = b"") -> list[Action]:
        return self.router.on_error(request_id or self.id, key(name), error, self.now_ns, load)

    def passes(self, ms: float) -> list[Action]:
        """Timers are woken when they are due."""
        until_ns, actions = self.now_ns + round(ms * MS), []
        while (due_ns := self.router.next_timer_ns()) is not None and due_ns <= until_ns:
            self.now_ns = max(self.now_ns, due_ns)
            actions += self.router.on_timer(self.now_ns)
        self.now_ns = until_ns
        return actions

    def teach(self, latencies_ms: dict[str, Iterable[float]]) -> None:
        """Replicas answer as given, asked by nobody's request; the budget of extra load stays full."""
        for name, took in latencies_ms.items():
            taught = Taught(self.router._fleet, self.now_ns)
            for one_ms in took:
                taught.answers(name, one_ms)
            self.now_ns = taught.now_ns
        self.router._timers.clear()


def sends(actions: list[Action]) -> list[tuple[str, str]]:
    """Who is asked, and why."""
    return [(str(action.replica), action.why) for action in actions if isinstance(action, Send)]


def kinds(actions: list[Action]) -> list[str]:
    """`Send`, `Deliver` …"""
    return [type(action).__name__ for action in actions]
