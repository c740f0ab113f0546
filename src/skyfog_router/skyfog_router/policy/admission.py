"""The replica's end: what runs now, what waits, what is refused, and that nothing runs twice.

    query --free slot--> RUNNING --done--> REMEMBERED (for remember_ns)
          --busy-------> WAITING --slot, time left--> RUNNING
          --full, late, known, wrong type--> refused
    cancel: WAITING -> refused; RUNNING is told to stop, where the service can be, and stays until it is done
    late:   RUNNING past its budget is told the same

Plain callbacks cannot be stopped: they go on, and keep their slot.

A query that comes again while the first one runs gets the same answer; one that comes after it is refused as
OUTCOME_UNKNOWN, since its answer is gone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.errors import Status
from skyfog_core.ids import RequestId
from skyfog_core.units import MS
from skyfog_core.wire.envelope import Header

MAX_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Start:
    """Run the request that this ticket brought."""

    request_id: RequestId
    ticket: Any
    budget_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Send the result of a request that ran to one more ticket."""

    request_id: RequestId
    ticket: Any
    result: Any


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer a ticket without a result."""

    request_id: RequestId
    ticket: Any
    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Nobody wants this running request's result; it is done, in any way, soon after."""

    request_id: RequestId


AdmissionAction = Start | Answer | Refuse | Stop


@dataclass(slots=True)
class _Job:
    request_id: RequestId
    deadline_ns: int
    priority: int
    order: int
    tickets: list[Any] = field(default_factory=list)


class Admission:
    """Bounded concurrency, bounded queue, bounded memory of ids. Pure; `ticket` is how to answer, opaque here."""

    def __init__(
        self,
        type_hash: bytes,
        concurrency: int,
        max_queue: int,
        remember_ns: int,
        can_abandon: bool,
        can_stop: bool = False,
    ) -> None:
        self._type_hash = type_hash
        self._concurrency = concurrency
        self._max_queue = max_queue
        self._remember_ns = remember_ns
        self._can_abandon = can_abandon  # a forwarded call is given up; a thread runs to its end
        self._can_stop = can_stop
        self._running: dict[RequestId, _Job] = {}
        self._stopped: set[RequestId] = set()
        self._overdue: set[RequestId] = set()
        self._waiting: dict[RequestId, _Job] = {}
        self._remembered: OrderedDict[RequestId, int] = OrderedDict()
        self._order = 0
        self.started = 0
        self.duplicates = 0

    @property
    def depth(self) -> int:
        """Requests waiting."""
        return len(self._waiting)

    def on_query(self, header: Header, ticket: Any, now_ns: int) -> list[AdmissionAction]:
        """A request arrived."""
        request_id = header.request_id
        if header.type_hash != self._type_hash:
            text = f"type hash {header.type_hash.hex()[:12]}… here {self._type_hash.hex()[:12]}…: rebuild one end"
            return [Refuse(request_id, ticket, Status.NOT_EXECUTED, text)]
        job = self._running.get(request_id) or self._waiting.get(request_id)
        if job is not None:
            self.duplicates += 1
            job.tickets.append(ticket)
            return []
        if request_id in self._remembered:
            self.duplicates += 1
            return [Refuse(request_id, ticket, Status.OUTCOME_UNKNOWN, "ran here already; its answer is gone")]
        if header.budget_ms <= 0:
            return [Refuse(request_id, ticket, Status.NOT_EXECUTED, "no time left on arrival")]
        job = _Job(request_id, now_ns + header.budget_ms * MS, header.priority, self._order, [ticket])
        self._order += 1
        actions: list[AdmissionAction] = []
        if len(self._running) >= self._concurrency and len(self._waiting) >= self._max_queue:
            actions = self._drop_late(now_ns)
            if len(self._waiting) >= self._max_queue:
                text = f"{len(self._waiting)} requests wait already (max_queue {self._max_queue})"
                return [*actions, Refuse(request_id, ticket, Status.NOT_EXECUTED, text)]
        self._waiting[request_id] = job
        return [*actions, *self._fill(now_ns)]

    def on_cancel(self, request_id: RequestId) -> list[AdmissionAction]:
        """The robot has its answer: forget the request if it waits, stop it if it runs."""
        job = self._waiting.pop(request_id, None)
        return self._refuse(job, Status.NOT_EXECUTED, "withdrawn") if job else self._stop(request_id)

    def on_done(self, request_id: RequestId, result: Any, now_ns: int) -> list[AdmissionAction]:
        """The service returned; `result` goes to everyone who asked for it."""
        job = self._running.pop(request_id, None)
        self._overdue.discard(request_id)
        self._stopped.discard(request_id)
        if job is None:
            return []  # given up on before
        self._remember(request_id, now_ns)
        return [*(Answer(request_id, t, result) for t in job.tickets), *self._fill(now_ns)]

    def on_timer(self, now_ns: int) -> list[AdmissionAction]:
        """Give up on what runs past its budget, refuse what waited past it, forget old ids."""
        actions = self._drop_late(now_ns)
        for request_id, job in list(self._running.items()):
            if job.deadline_ns <= now_ns and request_id not in self._overdue:
                actions += self._refuse(job, Status.OUTCOME_UNKNOWN, "no answer from the service within the budget")
                job.tickets.clear()
                self._overdue.add(request_id)
                actions += self._stop(request_id)
                if self._can_abandon:
                    del self._running[request_id]
                    self._overdue.discard(request_id)
                    self._stopped.discard(request_id)
                    self._remember(request_id, now_ns)
        while self._remembered and next(iter(self._remembered.values())) + self._remember_ns <= now_ns:
            self._remembered.popitem(last=False)
        return [*actions, *self._fill(now_ns)]

    def next_timer_ns(self) -> int | None:
        """When `on_timer` is due next."""
        due = [job.deadline_ns for job in self._waiting.values()]
        due += [job.deadline_ns for i, job in self._running.items() if i not in self._overdue]
        if self._remembered:
            due.append(next(iter(self._remembered.values())) + self._remember_ns)
        return min(due, default=None)

    def check(self) -> None:
        """Raise AssertionError if a bound is broken or a request is in two places."""
        assert len(self._running) <= self._concurrency
        assert len(self._waiting) <= self._max_queue or len(self._running) < self._concurrency
        assert not self._running.keys() & self._waiting.keys()
        assert not self._remembered.keys() & (self._running.keys() | self._waiting.keys())
        assert self._overdue <= self._running.keys()
        assert self._stopped <= self._running.keys()
        assert len(self._remembered) <= MAX_REMEMBERED

    def _remember(self, request_id: RequestId, now_ns: int) -> None:
        self._remembered[request_id] = now_ns
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _refuse(self, job: _Job, status: Status, message: str) -> list[AdmissionAction]:
        return [Refuse(job.request_id, ticket, status, message) for ticket in job.tickets]

    def _stop(self, request_id: RequestId) -> list[AdmissionAction]:
        """Once, and only what runs."""
        if not self._can_stop or request_id not in self._running or request_id in self._stopped:
            return []
        self._stopped.add(request_id)
        return [Stop(request_id)]

    def _drop_late(self, now_ns: int) -> list[AdmissionAction]:
        late = [job for job in self._waiting.values() if job.deadline_ns <= now_ns]
        actions: list[AdmissionAction] = []
        for job in late:
            del self._waiting[job.request_id]
            actions += self._refuse(job, Status.NOT_EXECUTED, "its time ran out in the queue")
        return actions

    def _fill(self, now_ns: int) -> list[AdmissionAction]:
        actions: list[AdmissionAction] = []
        while self._waiting and len(self._running) < self._concurrency:
            job = min(self._waiting.values(), key=lambda j: (-j.priority, j.order))
            del self._waiting[job.request_id]
            if job.deadline_ns <= now_ns:
                actions += self._refuse(job, Status.NOT_EXECUTED, "its time ran out in the queue")
                continue
            self._running[job.request_id] = job
            self.started += 1
            actions.append(Start(job.request_id, job.tickets[0], (job.deadline_ns - now_ns) // MS))
        return actions
