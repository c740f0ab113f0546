"""FogROS2-FT's router by the rules that it was published with (arXiv 2412.05408 and its code).

Each request goes to all replicas that were ever known, the first response wins and later ones are dropped by id. One
request of a service is in flight at a time; the others wait in the executor. There is no choice, hedge delay, retry,
cancellation or health. After the time-out (1 s) the client gets an empty default response, which looks like success.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from skyfog_bench.baselines.peer_policy import PeerPolicy
from skyfog_core.errors import RequestError
from skyfog_core.ids import RequestId
from skyfog_core.units import MS, S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import NO_LOAD, Action, Deliver, Fail, Load, Send

TIMEOUT_NS = S
NOBODY = ReplicaKey("", "")


class FogRos2Ft(PeerPolicy):
    """The robot's end of one service."""

    name = "fogros2_ft"

    def __init__(self, empty: Any, timeout_ns: int = TIMEOUT_NS) -> None:
        """`empty`: the service's default response."""
        super().__init__()
        self._empty = empty
        self._timeout_ns = timeout_ns
        self._waiting: deque[tuple[RequestId, int]] = deque()  # and when they came
        self._running: tuple[RequestId, int] | None = None
        self._due_ns = 0
        self._known: set[ReplicaKey] = set()  # nobody is ever taken out

    def on_call(
        self, request_id: RequestId, now_ns: int, affinity: bytes = b"", budget_ms: int | None = None
    ) -> list[Action]:
        """A client calls."""
        self.books.called += 1
        self._waiting.append((request_id, now_ns))
        return self._next(now_ns)

    def on_reply(
        self, request_id: RequestId, replica: ReplicaKey, response: Any, now_ns: int, load: Load = NO_LOAD
    ) -> list[Action]:
        """The first response wins."""
        if not self.is_open(request_id):
            self.books.late += 1
            return []
        return self._deliver(replica, response, now_ns)

    def on_error(
        self, request_id: RequestId, replica: ReplicaKey, error: RequestError, now_ns: int, load: Load = NO_LOAD
    ) -> list[Action]:
        """Nobody looks at errors."""
        return []

    def on_join(self, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> list[Action]:
        """A replica is added to the table."""
        self._known.add(replica)
        return super().on_join(replica, announcement, now_ns)

    def on_timer(self, now_ns: int) -> list[Action]:
        """The time-out: an empty default response."""
        if self._running is None or now_ns < self._due_ns:
            return []
        return self._deliver(NOBODY, self._empty, now_ns)

    def next_timer_ns(self) -> int | None:
        """When `on_timer` is due next."""
        return None if self._running is None else self._due_ns

    def is_open(self, request_id: RequestId) -> bool:
        """Whether a reply to it is still wanted."""
        return self._running is not None and self._running[0] == request_id

    def close(self, error: RequestError, now_ns: int) -> list[Action]:
        """Fail everything that is open."""
        left = [*([self._running] if self._running else []), *self._waiting]
        self._running = None
        self._waiting.clear()
        return self._count([Fail(request_id, error, now_ns - came_ns) for request_id, came_ns in left])

    def _deliver(self, replica: ReplicaKey, response: Any, now_ns: int) -> list[Action]:
        assert self._running is not None
        request_id, came_ns = self._running
        self._running = None
        delivered = Deliver(request_id, replica, response, now_ns - came_ns, asked=max(1, len(self._known)))
        return self._count([delivered]) + self._next(now_ns)

    def _next(self, now_ns: int) -> list[Action]:
        if self._running is not None or not self._waiting:
            return []
        self._running = self._waiting.popleft()
        self._due_ns = now_ns + self._timeout_ns
        request_id = self._running[0]
        budget_ms = self._timeout_ns // MS
        return [
            Send(request_id, replica, attempt, budget_ms, "copy" if attempt else "first")
            for attempt, replica in enumerate(sorted(self._known))
        ]
