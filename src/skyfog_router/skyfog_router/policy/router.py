"""All open requests of one service: who is there, who was asked, and when to give up.

Books: every request that came in is open or was closed exactly once (delivered or failed).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import LinkLost, Overloaded, RequestError
from skyfog_core.ids import RequestId
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement, Membership
from skyfog_router.policy.actions import Action, Deliver, Fail
from skyfog_router.policy.request import BroadcastRequest


@dataclass(slots=True)
class Books:
    """Counters since the start."""

    called: int = 0
    delivered: int = 0
    failed: int = 0
    late: int = 0  # replies to closed or unknown requests


class Router:
    """The policy of one service. Every method returns the actions to perform, in order."""

    def __init__(self, config: RoutingConfig) -> None:
        self._config = config
        self._open: dict[RequestId, BroadcastRequest] = {}
        self._deadlines: list[tuple[int, RequestId]] = []
        self.membership = Membership()
        self.books = Books()

    def on_call(self, request_id: RequestId, now_ns: int) -> list[Action]:
        """A client calls."""
        self.books.called += 1
        if len(self._open) >= self._config.max_in_flight:
            error = Overloaded(f"{len(self._open)} requests are in flight already")
            return self._count([Fail(request_id, error, 0)])
        request = BroadcastRequest(request_id, now_ns, now_ns + self._config.deadline_ms * MS, self._config.fan_out)
        self._open[request_id] = request
        heapq.heappush(self._deadlines, (request.deadline_ns, request_id))
        return request.ask(self.membership.live(), now_ns)

    def on_reply(self, request_id: RequestId, replica: ReplicaKey, response: Any, now_ns: int) -> list[Action]:
        """A valid reply came."""
        return self._with(request_id, lambda request: request.on_reply(replica, response, now_ns))

    def on_error(self, request_id: RequestId, replica: ReplicaKey, error: RequestError, now_ns: int) -> list[Action]:
        """A replica refused, failed, or answered bytes that are no reply."""
        live = self.membership.live()
        return self._with(request_id, lambda request: request.on_error(replica, error, live, now_ns))

    def on_ended(self, request_id: RequestId, replica: ReplicaKey, now_ns: int) -> list[Action]:
        """The query to `replica` is over; if it had not answered, it never will."""
        if request_id not in self._open:
            return []
        return self.on_error(request_id, replica, LinkLost("ended without an answer"), now_ns)

    def on_join(self, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> list[Action]:
        """A replica announced itself: open requests may ask it too."""
        if not self.membership.join(replica, announcement):
            return []
        live = self.membership.live()
        return [a for request in self._open.values() for a in request.on_join(replica, live, now_ns)]

    def on_leave(self, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> list[Action]:
        """A replica drains or died: it gets nothing new. What it has may still be answered."""
        self.membership.leave(replica, announcement)
        return []

    def on_timer(self, now_ns: int) -> list[Action]:
        """Fail what is past its deadline."""
        actions: list[Action] = []
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            _, request_id = heapq.heappop(self._deadlines)
            actions += self._with(request_id, lambda request: request.on_deadline(now_ns), late=0)
        return actions

    def next_timer_ns(self) -> int | None:
        """When `on_timer` is due next."""
        while self._deadlines and self._deadlines[0][1] not in self._open:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def is_open(self, request_id: RequestId) -> bool:
        """Whether a reply to it is still wanted."""
        return request_id in self._open

    def close(self, error: RequestError, now_ns: int) -> list[Action]:
        """Shut down: fail everything that is open."""
        actions: list[Action] = []
        for request_id, request in list(self._open.items()):
            ending = [Fail(request_id, error, now_ns - request.started_ns)]
            request.done = True
            actions += self._count([*ending])
            del self._open[request_id]
        return actions

    def check(self) -> None:
        """Raise AssertionError if a request is lost or closed twice."""
        books = self.books
        assert books.called == books.delivered + books.failed + len(self._open), (books, len(self._open))
        scheduled = {request_id for _, request_id in self._deadlines}
        assert self._open.keys() <= scheduled, "an open request has no deadline"
        assert not any(request.done for request in self._open.values())

    def _with(
        self, request_id: RequestId, event: Callable[[BroadcastRequest], list[Action]], late: int = 1
    ) -> list[Action]:
        request = self._open.get(request_id)
        if request is None:
            self.books.late += late
            return []
        actions = event(request)
        if request.done:
            del self._open[request_id]
        return self._count(actions)

    def _count(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            self.books.delivered += isinstance(action, Deliver)
            self.books.failed += isinstance(action, Fail)
        return actions
