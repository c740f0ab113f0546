"""A robot_proxy's trace as requests: who was asked when and why, who answered, and what came of it.

An event of the trace has `t_ns`, `event` and, of these, its own fields:

    sent       id service replica why budget_ms     refused    id replica error why
    delivered  id service replica ms local asked    failed     id service error why
    answered   id service replica  (kept: a better one, or others, may come)
    joined, left, readmitted   service replica      ejected    service replica why for_ms

Events of the fleet belong to the time line of each request of that service that was open then.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skyfog_core.units import ms_to_ns, ns_to_ms

MAX_OPEN = 10_000  # of a proxy that was killed, requests stay open for ever
BEGINNINGS = frozenset({"sent", "failed"})  # nobody was there to ask where the first one is `failed`
FLEET_EVENTS = frozenset({"joined", "left", "ejected", "readmitted"})


@dataclass(frozen=True, slots=True)
class Step:
    """One event in the life of a request."""

    t_ns: int
    event: str
    fields: dict[str, Any]


@dataclass(slots=True)
class Request:
    """One request, from its first copy to its outcome."""

    id: str
    service: str = ""
    steps: list[Step] = field(default_factory=list)
    outcome: str = ""  # "delivered", or the error's name; empty while open
    winner: str = ""
    started_ns: int = 0
    ended_ns: int = 0

    @property
    def ok(self) -> bool:
        return self.outcome == "delivered"

    @property
    def ms(self) -> float:
        """From the call to the outcome."""
        return ns_to_ms(self.ended_ns - self.started_ns)

    @property
    def withdrawn(self) -> list[str]:
        """Who was asked and had not answered when it ended. A copy on trial is heard to the end, so it is none."""
        open_copies: Counter[str] = Counter()
        for step in self.steps:
            if step.event == "sent" and step.fields["why"] != "probe":
                open_copies[step.fields["replica"]] += 1
            elif step.event in {"refused", "answered", "delivered"}:
                open_copies[step.fields["replica"]] -= 1
        return sorted(replica for replica, count in open_copies.items() if count > 0)


@dataclass(slots=True)
class Share:
    """What one replica did for a service."""

    asked: int = 0
    won: int = 0
    refused: int = 0
    withdrawn: int = 0
    ejected: int = 0


@dataclass(slots=True)
class Summary:
    """One service's requests that ended."""

    outcomes: Counter[str] = field(default_factory=Counter)
    sends: Counter[str] = field(default_factory=Counter)  # by why
    replicas: dict[str, Share] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)  # of what was delivered

    @property
    def requests(self) -> int:
        return self.outcomes.total()

    def share(self, replica: str) -> Share:
        return self.replicas.setdefault(replica, Share())

    def quantile_ms(self, q: float) -> float | None:
        """A latency that was seen (the nearest rank upwards); None where nothing was delivered."""
        if not self.latencies_ms:
            return None
        return float(np.percentile(self.latencies_ms, q * 100, method="higher"))


class Timelines:
    """Follows a trace event by event; keeps what is open, and a summary a service of what ended."""

    def __init__(self) -> None:
        self.open: OrderedDict[str, Request] = OrderedDict()
        self.summaries: dict[str, Summary] = {}

    def add(self, event: dict[str, Any]) -> Request | None:
        """Take one event. Returns the request that it ended, if it did. Raises KeyError where it lacks a field."""
        name, t_ns = event["event"], event["t_ns"]
        step = Step(t_ns, name, {key: value for key, value in event.items() if key not in {"event", "t_ns", "id"}})
        if name in FLEET_EVENTS:
            self._of_fleet(step)
            return None
        if event.get("id") not in self.open and name not in BEGINNINGS:
            return None  # of a later version, or of a copy on trial whose request has ended
        request = self._request(event["id"], t_ns)
        request.service = step.fields.get("service", request.service)
        request.steps.append(step)
        if name not in {"delivered", "failed"}:
            return None
        return self._end(request, step)

    def _request(self, request_id: str, t_ns: int) -> Request:
        request = self.open.get(request_id)
        if request is None:
            request = self.open[request_id] = Request(request_id, started_ns=t_ns)
            if len(self.open) > MAX_OPEN:
                self.open.popitem(last=False)
        return request

    def _of_fleet(self, step: Step) -> None:
        service, replica = step.fields["service"], step.fields["replica"]
        if step.event == "ejected":
            self._summary(service).share(replica).ejected += 1
        for request in self.open.values():
            if request.service == service:
                request.steps.append(step)

    def _end(self, request: Request, step: Step) -> Request:
        del self.open[request.id]
        request.ended_ns = step.t_ns
        if "ms" in step.fields:
            request.started_ns = step.t_ns - ms_to_ns(step.fields["ms"])
        request.outcome = "delivered" if step.event == "delivered" else step.fields["error"]
        request.winner = step.fields["replica"] if request.ok else ""
        summary = self._summary(request.service)
        summary.outcomes[request.outcome] += 1
        for past in request.steps:
            if past.event == "sent":
                summary.sends[past.fields["why"]] += 1
                summary.share(past.fields["replica"]).asked += 1
            elif past.event == "refused":
                summary.share(past.fields["replica"]).refused += 1
        for replica in request.withdrawn:
            summary.share(replica).withdrawn += 1
        if request.ok:
            summary.latencies_ms.append(request.ms)
            summary.share(request.winner).won += 1
        return request

    def _summary(self, service: str) -> Summary:
        return self.summaries.setdefault(service, Summary())


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests somebody wants to see."""

    id_prefix: str = ""
    failed_only: bool = False

    def __call__(self, request: Request) -> bool:
        return request.id.startswith(self.id_prefix) and not (self.failed_only and request.ok)


class Newest:
    """The last `limit` that ended, in that order."""

    def __init__(self, limit: int) -> None:
        self._kept: deque[Request] = deque(maxlen=limit)

    def add(self, request: Request) -> None:
        self._kept.append(request)

    def requests(self) -> list[Request]:
        return list(self._kept)


class Slowest:
    """The `limit` that took longest, slowest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[float, int, Request]] = []
        self._order = 0

    def add(self, request: Request) -> None:
        self._order += 1
        heapq.heappush(self._heap, (request.ms, -self._order, request))
        if len(self._heap) > self._limit:
            heapq.heappop(self._heap)

    def requests(self) -> list[Request]:
        return [request for _, _, request in sorted(self._heap, reverse=True)]


def timeline(request: Request) -> Iterator[str]:
    """A request's life in lines of text, times in ms since the call."""
    who = f" by {request.winner}" if request.winner else ""
    state = f"{request.outcome}{who} after {request.ms:.1f} ms" if request.outcome else "still open"
    yield f"{request.id}  {request.service}  {state}"
    for step in request.steps:
        yield f"{ns_to_ms(step.t_ns - request.started_ns):>10.1f} ms  {_told(step)}"
    if request.outcome and request.withdrawn:
        yield f"{'':>10}     withdrawn from {', '.join(request.withdrawn)}"


def _told(step: Step) -> str:
    fields = step.fields
    replica = fields.get("replica", "")
    match step.event:
        case "sent":
            return f"asked {replica} ({fields['why']}), {fields['budget_ms']} ms left"
        case "refused":
            return f"{replica} gave no result: {fields['error']}: {fields['why']}"
        case "answered":
            return f"{replica} answered; kept, not yet delivered"
        case "delivered":
            return f"{replica} answered; delivered{' (the fallback on the robot)' if fields.get('local') else ''}"
        case "failed":
            return f"failed: {fields['error']}: {fields['why']}"
        case "ejected":
            return f"{replica} ejected: {fields['why']}"
        case _:
            return f"{replica} {step.event}".strip()
