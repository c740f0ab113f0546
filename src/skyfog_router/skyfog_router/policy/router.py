"""All open requests of one service: who is there, who was asked, when to look again, and what was learnt.

Books: every request that came in is open or was closed exactly once (delivered or failed); every copy beyond the first
of a request is a configured one (broadcast, k of n), within the extra-load budget, a rescue, or takes the place of one
that certainly did not run.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import InvalidRequest, LinkLost, NotExecuted, Overloaded, RequestError
from skyfog_core.ids import RequestId
from skyfog_core.units import MS, US, ns_to_ms
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.load import MOST_LATENCIES
from skyfog_core.wire.membership import Announcement, Membership
from skyfog_router.policy import fanout
from skyfog_router.policy.actions import NO_LOAD, Action, Cancel, Deliver, Fail, Load, Send
from skyfog_router.policy.fleet import Fleet
from skyfog_router.policy.gather import gather_of
from skyfog_router.policy.latency import LatencySketch
from skyfog_router.policy.load_budget import LoadBudget
from skyfog_router.policy.request import Request, Rules
from skyfog_router.policy.slo import Caution, LearntSlo, Slo
from skyfog_router.policy.snapshot import ServiceSnapshot
from skyfog_router.policy.view import replica_snapshot, to_ms

MOST_STALE = 100  # timers of requests that are over, beyond as many as count
LOOK_EVERY_NS = 20 * MS  # while requests are open: whether somebody has been silent for too long


@dataclass(slots=True)
class Books:
    """Counters since the start."""

    called: int = 0
    delivered: int = 0
    failed: int = 0
    late: int = 0  # replies to closed or unknown requests
    local: int = 0
    within_slo: int = 0
    sends: Counter[str] = field(default_factory=Counter)  # by why
    failures: Counter[str] = field(default_factory=Counter)  # by the error's name


class Router:
    """The policy of one service. Every method returns the actions to perform, in order."""

    def __init__(self, config: RoutingConfig, zone: str = "", seed: int = 0) -> None:
        """`zone`: the robot's own, for `rank: zone_aware`. `seed`: for rules that draw."""
        self._config = config
        self._fleet = Fleet(config, zone, Random(seed))
        self._budget = LoadBudget(config.extra_load)
        self._caution = Caution()
        self._fan_outs = {**fanout.table(), "slo": Slo(self._caution)}
        self._rules = self._rules_of(config)
        self._slo = LearntSlo(self._caution)
        self._open: dict[RequestId, Request] = {}
        self._trials: dict[RequestId, Request] = {}  # closed, and a copy on trial is still heard
        self._timers: list[tuple[int, RequestId]] = []
        self._set_ns: dict[RequestId, int] = {}  # the timer that counts
        self._looked_ns = 0
        self._took = LatencySketch()
        self._recent_us: deque[int] = deque(maxlen=MOST_LATENCIES)
        self.membership = Membership()
        self.books = Books()

    def on_call(
        self, request_id: RequestId, now_ns: int, affinity: bytes = b"", budget_ms: int | None = None
    ) -> list[Action]:
        """A client calls. Requests of one `affinity` go to one replica under `rank: sticky`.

        A caller with less time than `deadline_ms` says so by `budget_ms`, which then bounds deadline and SLO.
        """
        self.books.called += 1
        if len(self._open) >= self._config.max_in_flight:
            error = Overloaded(f"{len(self._open)} requests are in flight already")
            return self._count([Fail(request_id, error, 0)])
        self._budget.on_request()
        slo_ns = self._slo.get(self._fleet, now_ns)
        request = Request(request_id, now_ns, slo_ns, self._rules, gather_of(self._config), affinity, budget_ms)
        self._open[request_id] = request
        actions = self._look(now_ns) + request.advance(now_ns) + self._try_somebody(request, now_ns)
        return self._after(request, actions, now_ns)

    def on_reply(
        self, request_id: RequestId, replica: ReplicaKey, response: Any, now_ns: int, load: Load = NO_LOAD
    ) -> list[Action]:
        """A valid reply came."""
        learnt = self._fleet.on_answer(replica, request_id, load, now_ns)
        actions = self._with(
            request_id, replica, lambda request: request.on_reply(replica, response, now_ns, load), now_ns
        )
        if any(isinstance(action, Deliver) for action in actions):
            self._fleet.last_winner = replica
        return actions + learnt

    def on_error(
        self, request_id: RequestId, replica: ReplicaKey, error: RequestError, now_ns: int, load: Load = NO_LOAD
    ) -> list[Action]:
        """A replica refused, failed, or answered bytes that are no reply."""
        learnt: list[Action] = []
        if isinstance(error, NotExecuted):
            self._fleet.on_refused(replica, request_id, load, now_ns)
        elif isinstance(error, InvalidRequest):  # the replica is as sound as with an answer
            learnt = self._fleet.on_answer(replica, request_id, load, now_ns)
        else:
            learnt = self._fleet.on_failed(replica, request_id, str(error), load, now_ns)
        return self._with(request_id, replica, lambda r: r.on_error(replica, error, load, now_ns), now_ns) + learnt

    def on_ended(self, request_id: RequestId, replica: ReplicaKey, now_ns: int) -> list[Action]:
        """The query to `replica` is over; if it had not answered, it never will."""
        request = self._open.get(request_id) or self._trials.get(request_id)
        if request is None or replica not in request.asked:
            return []
        return self.on_error(request_id, replica, LinkLost("ended without an answer"), now_ns)

    def on_join(self, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> list[Action]:
        """A replica announced itself: open requests may ask it too."""
        if not self.membership.join(replica, announcement):
            return []
        self._fleet.join(replica, announcement, now_ns)
        actions = []
        for request in list(self._open.values()):
            actions += self._after(request, request.on_join(replica, now_ns), now_ns)
        return actions

    def on_leave(self, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> list[Action]:
        """A replica drains or died: it gets nothing new. What it has may still be answered."""
        if not self.membership.leave(replica, announcement):
            return []
        self._fleet.leave(replica)
        return []

    def on_timer(self, now_ns: int) -> list[Action]:
        """Ask whom requests planned to ask by now, and fail what is past its deadline."""
        actions = self._look(now_ns)
        while self._timers and self._timers[0][0] <= now_ns:
            when_ns, request_id = heapq.heappop(self._timers)
            if self._set_ns.get(request_id) != when_ns:
                continue  # another moment counts by now
            del self._set_ns[request_id]
            request = self._open.get(request_id)
            if request is not None:
                actions += self._after(request, request.on_timer(now_ns), now_ns)
            elif request_id in self._trials:
                actions += self._end_trial(request_id, now_ns)
        return actions

    def next_timer_ns(self) -> int | None:
        """When `on_timer` is due next."""
        while self._timers and self._set_ns.get(self._timers[0][1]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def is_open(self, request_id: RequestId) -> bool:
        """Whether a reply to it is still of use."""
        return request_id in self._open or request_id in self._trials

    def close(self, error: RequestError, now_ns: int) -> list[Action]:
        """Shut down: end everything that is open; `error` tells those requests that certainly did not run."""
        actions: list[Action] = []
        for request in self._open.values():
            actions += self._count(request.close(error, now_ns))
        for request_id, request in self._trials.items():
            actions += [Cancel(request_id, replica) for replica in request.asked]
        self._open.clear()
        self._trials.clear()
        self._set_ns.clear()
        self._timers.clear()
        self._fleet.close()
        return actions

    def reconfigure(self, config: RoutingConfig, now_ns: int) -> list[Action]:
        """Other rules from the next request on; what was learnt stays."""
        self._config = config
        self._fleet.reconfigure(config)
        self._budget.reconfigure(config.extra_load)
        self._rules = self._rules_of(config)
        self._slo = LearntSlo(self._caution)
        return self._look(now_ns)

    def snapshot(self, now_ns: int) -> ServiceSnapshot:
        """What is known, for those who look."""
        books, slo_ns = self.books, self._slo.in_force_ns(self._config)
        sends = books.sends
        return ServiceSnapshot(
            policy=self._config.policy,
            rank=self._config.rank,
            in_flight=len(self._open),
            called=books.called,
            delivered=books.delivered,
            failed=books.failed,
            late=books.late,
            sends=sends.total(),
            extra=sends["copy"] + sends["hedge"] + sends["probe"],
            rescues=sends["rescue"],
            local=books.local,
            slo_ms=None if slo_ns is None else ns_to_ms(slo_ns),
            within_slo=books.within_slo,
            p50_ms=to_ms(self._took.quantile(0.5)),
            p99_ms=to_ms(self._took.quantile(0.99)),
            panic=self._fleet.panic(),
            failures=dict(books.failures),
            replicas=tuple(replica_snapshot(self._fleet.replicas[key], now_ns) for key in self.membership.live()),
            recent_us=tuple(self._recent_us),
        )

    @property
    def priority(self) -> int:
        """Of this service's requests at a busy replica."""
        return self._config.priority

    @property
    def budget(self) -> LoadBudget:
        """For those who check that it is kept."""
        return self._budget

    def check(self) -> None:
        """Raise AssertionError if a request is lost or closed twice."""
        books = self.books
        assert books.called == books.delivered + books.failed + len(self._open), (books, len(self._open))
        scheduled = {(when_ns, request_id) for when_ns, request_id in self._timers}
        for request_id in self._open.keys() | self._trials.keys():
            assert (self._set_ns.get(request_id), request_id) in scheduled, "an open request has no timer"
        assert not any(request.done for request in self._open.values())
        assert not self._open.keys() & self._trials.keys()
        assert self._fleet.replicas.keys() == set(self.membership.live())
        self._fleet.check()
        known = self._open.keys() | self._trials.keys()
        for replica in self._fleet.replicas.values():
            assert replica.open.keys() <= known, f"{replica.key} is thought busy with a closed request"

    # inside

    def _look(self, now_ns: int) -> list[Action]:
        if now_ns - self._looked_ns < LOOK_EVERY_NS:
            return []
        self._looked_ns = now_ns
        return self._fleet.look(now_ns)

    def _try_somebody(self, request: Request, now_ns: int) -> list[Action]:
        """A copy to a replica on trial, where copies are allowed and there is a token for it."""
        config = self._config
        if config.repeat != "idempotent" or config.policy == "broadcast" or not self._budget.has():
            return []
        for replica in self._fleet.on_trial(now_ns):
            actions = request.ask_beside(replica, now_ns)
            if actions:
                self._budget.take()
                replica.tried_ns = now_ns
                return actions
        return []

    def _with(
        self, request_id: RequestId, replica: ReplicaKey, event: Callable[[Request], list[Action]], now_ns: int
    ) -> list[Action]:
        request = self._open.get(request_id)
        if request is not None:
            return self._after(request, event(request), now_ns)
        trial = self._trials.get(request_id)
        if trial is None or replica not in trial.asked:
            self.books.late += 1
            return []
        del trial.asked[replica]
        trial.trials.discard(replica)
        return self._end_trial(request_id, now_ns) if not trial.trials else []

    def _end_trial(self, request_id: RequestId, now_ns: int) -> list[Action]:
        """All copies that were heard to their end have answered, or had all the time they get."""
        request = self._trials.pop(request_id)
        over = self._fleet.on_deadline_missed if now_ns >= request.deadline_ns else self._fleet.on_given_up
        self._set_ns.pop(request_id, None)
        actions: list[Action] = []
        for key in request.trials & request.asked.keys():
            actions += [Cancel(request_id, key), *over(key, request_id, now_ns)]
        return actions

    def _after(self, request: Request, actions: list[Action], now_ns: int) -> list[Action]:
        """Keep timers and books after an event of one request."""
        request_id = request.request_id
        due_ns = request.look_ns
        self._count(actions)
        if request.done:
            actions += self._closed(request, actions, now_ns)
            due_ns = request.heard_until_ns
        if request_id not in self._open and request_id not in self._trials:
            self._set_ns.pop(request_id, None)
        elif self._set_ns.get(request_id) != due_ns:
            self._set_ns[request_id] = due_ns
            heapq.heappush(self._timers, (due_ns, request_id))
            if len(self._timers) > MOST_STALE + 2 * len(self._set_ns):
                self._timers = [(when_ns, who) for who, when_ns in self._set_ns.items()]
                heapq.heapify(self._timers)
        return actions

    def _closed(self, request: Request, actions: list[Action], now_ns: int) -> list[Action]:
        """A request is over: what its unanswered copies tell of their replicas."""
        request_id = request.request_id
        del self._open[request_id]
        over = self._fleet.on_deadline_missed if now_ns >= request.deadline_ns else self._fleet.on_given_up
        learnt: list[Action] = []
        for key in [key for key in request.asked if key not in request.trials or now_ns >= request.deadline_ns]:
            del request.asked[key]
            learnt += over(key, request_id, now_ns)
        if request.asked:
            self._trials[request_id] = request
        answered, in_time = any(isinstance(action, Deliver) for action in actions), request.in_time(now_ns)
        if answered:
            took_ns = now_ns - request.started_ns
            self._took.answer(max(1, took_ns), now_ns)
            self._recent_us.append(took_ns // US)
            self.books.within_slo += in_time
        if self._config.policy == "slo" and request.slo_ns < request.deadline_ns and (answered or not in_time):
            self._caution.observe(in_time, self._config.slo_target)  # that all refused at once tells nothing of it
        return learnt

    def _count(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            match action:
                case Send():
                    self.books.sends[action.why] += 1
                case Deliver():
                    self.books.delivered += 1
                    self.books.local += action.local
                    winner = self._fleet.find(action.replica)
                    if winner is not None:
                        winner.won += 1
                case Fail():
                    self.books.failed += 1
                    self.books.failures[type(action.error).__name__] += 1
                case _:
                    pass
        return actions

    def _rules_of(self, config: RoutingConfig) -> Rules:
        """What must not run twice goes to one replica at a time, whatever the policy."""
        policy = config.policy if config.repeat == "idempotent" else "single"
        return Rules(config, self._fan_outs[policy], self._fleet, self._budget)
