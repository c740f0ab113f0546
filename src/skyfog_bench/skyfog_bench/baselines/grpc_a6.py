"""gRPC's hedging by the rules of its proposal A6 (client retries), for where grpcio only parses them.

`hedgingPolicy` of a service config: the first attempt goes out at once, another each `hedgingDelay` until one succeeds
or `maxAttempts` are out; one that fails with a non-fatal status lets the next go at once; a fatal status ends the call;
the first success is delivered and cancels the others. `retryThrottling`: a bucket of `maxTokens`; a failed attempt
takes one, a success gives back `tokenRatio`; at half or less no hedges are sent. Push-back: a server that names a time
moves the next attempt to it; a negative one ends the hedges of this call. Hedges go to hosts that were not asked yet.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

from skyfog_bench.baselines.peer_policy import PeerPolicy
from skyfog_core.errors import DeadlineExceeded, InvalidRequest, LinkLost, NoReplica, RequestError, ServiceFailed
from skyfog_core.ids import RequestId
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import NO_LOAD, Action, Cancel, Deliver, Fail, Load, Send

FATAL = (InvalidRequest, ServiceFailed)  # INVALID_ARGUMENT and INTERNAL of the service itself; the rest is UNAVAILABLE
MOST_ATTEMPTS = 5  # A6: larger values are read as this


@dataclass(frozen=True, slots=True)
class A6Config:
    """The service config, and the call's deadline (with wait_for_ready: it also bounds waiting for a server)."""

    hedging_delay_ns: int
    max_attempts: int = 3
    max_tokens: float = 10.0  # of gRPC's own example
    token_ratio: float = 0.1
    deadline_ns: int = 5_000 * MS

    def __post_init__(self) -> None:
        if not self.max_attempts >= 2 or self.max_tokens <= 0 or self.token_ratio <= 0 or self.hedging_delay_ns < 0:
            raise ValueError(f"{self}: out of range")


@dataclass(slots=True)
class _Call:
    started_ns: int
    deadline_ns: int
    hedge_ns: int | None = None  # when the next attempt goes out; None: none by time
    asked: set[ReplicaKey] = field(default_factory=set)
    pending: set[ReplicaKey] = field(default_factory=set)
    last: RequestError | None = None
    stopped: bool = False  # a server said that it wants no more attempts

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and nothing will be."""
        return not self.pending and self.hedge_ns is None


class GrpcA6(PeerPolicy):
    """The client of one method."""

    name = "grpc_a6"

    def __init__(self, config: A6Config) -> None:
        super().__init__()
        self._config = config
        self.tokens = config.max_tokens
        self._open: dict[RequestId, _Call] = {}
        self._timers: list[tuple[int, RequestId]] = []
        self._turn = 0  # of round_robin

    def on_call(
        self, request_id: RequestId, now_ns: int, affinity: bytes = b"", budget_ms: int | None = None
    ) -> list[Action]:
        """A client calls. Its own budget is not known here."""
        self.books.called += 1
        call = _Call(now_ns, now_ns + self._config.deadline_ns)
        self._open[request_id] = call
        heapq.heappush(self._timers, (call.deadline_ns, request_id))
        return self._attempt(request_id, call, now_ns)

    def on_reply(
        self, request_id: RequestId, replica: ReplicaKey, response: Any, now_ns: int, load: Load = NO_LOAD
    ) -> list[Action]:
        """An attempt succeeded: the call is over."""
        call = self._open.pop(request_id, None)
        if call is None:
            self.books.late += 1
            return []
        self.tokens = min(self._config.max_tokens, self.tokens + self._config.token_ratio)
        took_ns = now_ns - call.started_ns
        return self._over(
            request_id, call, Deliver(request_id, replica, response, took_ns, asked=len(call.asked)), replica
        )

    def on_error(
        self, request_id: RequestId, replica: ReplicaKey, error: RequestError, now_ns: int, load: Load = NO_LOAD
    ) -> list[Action]:
        """An attempt failed."""
        call = self._open.get(request_id)
        if call is None or replica not in call.pending:
            return []
        call.pending.discard(replica)
        call.last = error
        if isinstance(error, FATAL):
            return self._fail(request_id, call, error, now_ns)
        self.tokens = max(0.0, self.tokens - 1)
        actions: list[Action] = []
        if load.retry_after_ns < 0:
            call.stopped, call.hedge_ns = True, None
        elif load.retry_after_ns > 0:
            self._set(request_id, call, now_ns + load.retry_after_ns)
        else:
            actions = self._attempt(request_id, call, now_ns)
        if call.idle:
            return self._fail(request_id, call, error, now_ns)
        return actions

    def on_ended(self, request_id: RequestId, replica: ReplicaKey, now_ns: int) -> list[Action]:
        """The connection broke: UNAVAILABLE."""
        return self.on_error(request_id, replica, LinkLost("ended without an answer"), now_ns)

    def on_join(self, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> list[Action]:
        """A server became ready: calls that wait for one go on."""
        super().on_join(replica, announcement, now_ns)
        waiting = [(i, call) for i, call in self._open.items() if not call.asked]
        return [action for request_id, call in waiting for action in self._attempt(request_id, call, now_ns)]

    def on_timer(self, now_ns: int) -> list[Action]:
        """Send hedges that are due, fail what is past its deadline."""
        actions: list[Action] = []
        while self._timers and self._timers[0][0] <= now_ns:
            _, request_id = heapq.heappop(self._timers)
            call = self._open.get(request_id)
            if call is None:
                continue
            if call.deadline_ns <= now_ns:
                late = DeadlineExceeded("no answer in time") if call.asked else NoReplica("no server became ready")
                actions += self._fail(request_id, call, late, now_ns)
            elif call.hedge_ns is not None and call.hedge_ns <= now_ns:
                actions += self._attempt(request_id, call, now_ns)
                if call.last is not None and call.idle:
                    actions += self._fail(request_id, call, call.last, now_ns)
        return actions

    def next_timer_ns(self) -> int | None:
        """When `on_timer` is due next."""
        while self._timers and self._timers[0][1] not in self._open:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def is_open(self, request_id: RequestId) -> bool:
        """Whether a reply to it is still wanted."""
        return request_id in self._open

    def close(self, error: RequestError, now_ns: int) -> list[Action]:
        """Fail everything that is open."""
        return [a for i, call in list(self._open.items()) for a in self._fail(i, call, error, now_ns)]

    # inside

    def _attempt(self, request_id: RequestId, call: _Call, now_ns: int) -> list[Action]:
        """One more attempt where the rules allow it; the first is always allowed."""
        most = min(self._config.max_attempts, MOST_ATTEMPTS)
        throttled = self.tokens <= self._config.max_tokens / 2
        if call.asked and (throttled or call.stopped or len(call.asked) >= most):
            call.hedge_ns = None
            return []
        replica = self._next(call.asked)
        if replica is None:
            call.hedge_ns = None
            return []
        call.asked.add(replica)
        call.pending.add(replica)
        call.hedge_ns = None
        if len(call.asked) < most and not call.stopped:
            self._set(request_id, call, now_ns + self._config.hedging_delay_ns)
        attempt = len(call.asked) - 1
        budget_ms = max(1, (call.deadline_ns - now_ns) // MS)
        return [Send(request_id, replica, attempt, budget_ms, "hedge" if attempt else "first")]

    def _next(self, asked: set[ReplicaKey]) -> ReplicaKey | None:
        """Round robin over the ready servers that this call has not asked."""
        live = self.membership.live()
        for step in range(len(live)):
            replica = live[(self._turn + step) % len(live)]
            if replica not in asked:
                self._turn = (self._turn + step + 1) % len(live)
                return replica
        return None

    def _set(self, request_id: RequestId, call: _Call, when_ns: int) -> None:
        call.hedge_ns = when_ns
        heapq.heappush(self._timers, (when_ns, request_id))

    def _fail(self, request_id: RequestId, call: _Call, error: RequestError, now_ns: int) -> list[Action]:
        self._open.pop(request_id, None)
        return self._over(request_id, call, Fail(request_id, error, now_ns - call.started_ns), None)

    def _over(self, request_id: RequestId, call: _Call, ending: Action, winner: ReplicaKey | None) -> list[Action]:
        losers = sorted(call.pending - {winner})
        return self._count([ending, *(Cancel(request_id, key) for key in losers)])
