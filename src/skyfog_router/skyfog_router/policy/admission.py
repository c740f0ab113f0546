"""The replica's end: what runs now, what waits, what is refused, and that nothing runs twice.

    query --free slot--> RUNNING --done--> REMEMBERED (for remember_ns)
                                 --done, the service says that it did not run--> forgotten
          --busy-------> WAITING --its turn (fairness.py), time left--> RUNNING
          --full, late, hopeless, known, wrong type, leaving--> refused
    cancel: WAITING -> refused; RUNNING is told to stop, where the service can be, and stays until it is done
    late:   RUNNING past its budget is told the same

Plain callbacks cannot be stopped: they go on, and keep their slot.

A query that comes again while the first one runs gets the same answer; one that comes after it is refused as
OUTCOME_UNKNOWN, since its answer is gone. By two zenoh routers every query comes twice: what was said not to run is
refused again, even if there is room by then; a later attempt of the same request is welcome.

Hopeless is what, as far as service_time.py can tell, has almost no chance to be done within its budget: it is refused
on arrival, or as soon as that shows in the queue, so that the robot may still ask elsewhere. A request that finds a
free slot always runs. A refusal for want of room says when to come again.

Draining with a limit, after which the machine is gone: what waits and cannot be done by then is handed back at once,
refused as not run, and so is what comes later. What runs goes on: it may yet be done.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

from skyfog_core.errors import Status
from skyfog_core.ids import RequestId
from skyfog_core.units import MS, S
from skyfog_core.wire.envelope import Header
from skyfog_router.policy.fairness import Job, Turns
from skyfog_router.policy.service_time import ServiceTime

MAX_REMEMBERED = 100_000
MAX_REFUSED = 10_000  # a copy comes twice within milliseconds
MAX_RETRY_AFTER_MS = 10_000
UNDER_WAY_NS = S // 2  # what was sent before the token was seen to be gone may still arrive
LEAVING = "this replica is leaving"


@dataclass(frozen=True, slots=True)
class Start:
    """Run the request that this ticket brought."""

    request_id: RequestId
    ticket: Any
    budget_ms: int
    queued_ns: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Send the result of a request that ran to one more ticket."""

    request_id: RequestId
    ticket: Any
    result: Any
    queued_ns: int = 0


# Why a ticket is answered without a result. type: another service type; repeated: it ran here already; leaving: the
# replica takes no more; late: its time was over; hopeless: it will be before it can be done; full: no room; withdrawn:
# the robot wants it no more; unanswered: the service did not answer in time, or the process ends.
Reason = Literal["type", "repeated", "leaving", "late", "hopeless", "full", "withdrawn", "unanswered"]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer a ticket without a result."""

    request_id: RequestId
    ticket: Any
    status: Status
    reason: Reason
    message: str
    retry_after_ms: int = 0  # 0: nothing is said


@dataclass(frozen=True, slots=True)
class Stop:
    """Nobody wants this running request's result; it is done, in any way, soon after."""

    request_id: RequestId


AdmissionAction = Start | Answer | Refuse | Stop


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
        self._running: dict[RequestId, Job] = {}
        self._stopped: set[RequestId] = set()
        self._overdue: set[RequestId] = set()
        self._waiting = Turns()
        self._times = ServiceTime()
        self._remembered: OrderedDict[RequestId, int] = OrderedDict()
        self._refused: OrderedDict[RequestId, int] = OrderedDict()  # the latest attempt
        self._draining_since_ns: int | None = None
        self._gone_ns: int | None = None  # when the machine goes, where that is known
        self._closing = False
        self.started = 0
        self.duplicates = 0

    @property
    def depth(self) -> int:
        """Requests waiting."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests running."""
        return len(self._running)

    @property
    def bounds(self) -> tuple[int, int]:
        """How many may run, and how many may wait."""
        return self._concurrency, self._max_queue

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._running and not self._waiting

    @property
    def is_draining(self) -> bool:
        """Whether it is about to take no more."""
        return self._closing or self._draining_since_ns is not None

    def is_drained(self, now_ns: int) -> bool:
        """Whether nothing is here, and nothing more is taken."""
        return self.is_idle and self._takes_no_more(now_ns)

    def running_beside(self, request_id: RequestId) -> int:
        """Requests running, this one not counted. Any thread."""
        return max(0, len(self._running) - (request_id in self._running))

    def on_query(self, header: Header, ticket: Any, now_ns: int) -> list[AdmissionAction]:
        """A request arrived."""
        request_id = header.request_id
        if header.type_hash != self._type_hash:
            text = f"type hash {header.type_hash.hex()[:12]}… here {self._type_hash.hex()[:12]}…: rebuild one end"
            return [Refuse(request_id, ticket, Status.NOT_EXECUTED, "type", text)]
        known = self._running.get(request_id) or self._waiting.get(request_id)
        if known is not None:
            self.duplicates += 1
            known.tickets.append(ticket)
            known.attempt = max(known.attempt, header.attempt)
            return []
        if request_id in self._remembered:
            self.duplicates += 1
            return [
                Refuse(request_id, ticket, Status.OUTCOME_UNKNOWN, "repeated", "ran here already; its answer is gone")
            ]
        deadline_ns = now_ns + header.budget_ms * MS
        job = Job(request_id, header.robot, header.priority, now_ns, deadline_ns, [ticket], attempt=header.attempt)
        if header.attempt <= self._refused.get(request_id, -1):
            self.duplicates += 1
            return self._refuse(job, Status.NOT_EXECUTED, "repeated", "this copy of it was refused already")
        if self._takes_no_more(now_ns) or len(self._waiting) >= self._room(now_ns):
            return self._refuse(job, Status.NOT_EXECUTED, "leaving", LEAVING)
        if header.budget_ms <= 0:
            return self._refuse(job, Status.NOT_EXECUTED, "late", "no time left on arrival")
        if len(self._running) < self._concurrency:
            return [self._start(job, now_ns)]
        return self._queue(job, now_ns)

    def on_cancel(self, request_id: RequestId) -> list[AdmissionAction]:
        """The robot has its answer: forget the request if it waits, stop it if it runs."""
        job = self._waiting.remove(request_id)
        return self._turned_away(job, "withdrawn", "withdrawn") if job else self._stop(request_id)

    def on_done(self, request_id: RequestId, result: Any, now_ns: int, ran: bool = True) -> list[AdmissionAction]:
        """The service returned; `result` goes to everyone who asked for it. Not `ran`: it may be asked again."""
        job = self._running.get(request_id)
        if job is None:  # given up on before
            if not ran:
                self._remembered.pop(request_id, None)
            return []
        if ran and request_id not in self._stopped:
            self._times.ran(now_ns - job.started_ns, now_ns)
        self._end(job, now_ns)
        if ran:
            self._remember(request_id, now_ns)
        else:
            self._note_refusal(job)
        return [*(Answer(request_id, t, result, job.queued_ns) for t in job.tickets), *self._fill(now_ns)]

    def on_timer(self, now_ns: int) -> list[AdmissionAction]:
        """Give up on what runs past its budget, refuse what waited too long, forget old ids."""
        self._times.forget(now_ns)
        actions = self._drop_late(now_ns)
        for request_id, job in list(self._running.items()):
            if job.deadline_ns <= now_ns and request_id not in self._overdue:
                text = "no answer from the service within the budget"
                actions += self._refuse(job, Status.OUTCOME_UNKNOWN, "unanswered", text)
                job.tickets.clear()
                self._overdue.add(request_id)
                actions += self._stop(request_id)
                if self._can_abandon:
                    self._end(job, now_ns)
                    self._remember(request_id, now_ns)
        while self._remembered and next(iter(self._remembered.values())) + self._remember_ns <= now_ns:
            self._remembered.popitem(last=False)
        return [*actions, *self._fill(now_ns)]

    def next_timer_ns(self) -> int | None:
        """When `on_timer` is due next."""
        due = [job.deadline_ns for i, job in self._running.items() if i not in self._overdue]
        if (first_ns := self._waiting.first_deadline_ns()) is not None:
            due.append(first_ns - self._times.low_ns)
        if self._remembered:
            due.append(next(iter(self._remembered.values())) + self._remember_ns)
        if self._waiting and self._gone_ns is not None:
            due.append(self._gone_ns)
        return min(due, default=None)

    def drain(self, draining: bool, now_ns: int, within_ns: int | None = None) -> list[AdmissionAction]:
        """Finish what is here and what was under way to here, and then take no more; or take requests again.

        `within_ns`: the machine is gone after that, or after a shorter time that was told before.
        """
        if not draining:
            self._draining_since_ns = self._gone_ns = None
            return []
        if self._draining_since_ns is None:
            self._draining_since_ns = now_ns
        if within_ns is not None:
            gone_ns = now_ns + within_ns
            self._gone_ns = gone_ns if self._gone_ns is None else min(gone_ns, self._gone_ns)
        return self._hand_back(now_ns)

    def close(self) -> None:
        """The process is about to end: take no more."""
        self._closing = True

    def end(self) -> list[AdmissionAction]:
        """The process ends now: tell everyone who still waits for an answer."""
        self._closing = True
        waiting = [job for job in list(self._waiting) if self._waiting.remove(job.request_id)]
        actions = [action for job in waiting for action in self._turned_away(job, "leaving", LEAVING)]
        for job in self._running.values():
            actions += self._refuse(job, Status.OUTCOME_UNKNOWN, "unanswered", "this replica ended while it ran")
            job.tickets.clear()
            actions += self._stop(job.request_id)
        return actions

    def check(self) -> None:
        """Raise AssertionError if a bound is broken or a request is in two places."""
        assert len(self._running) <= self._concurrency
        assert len(self._waiting) <= self._max_queue
        waiting = {job.request_id for job in self._waiting}
        assert not self._running.keys() & waiting
        assert not self._remembered.keys() & (self._running.keys() | waiting)
        assert self._overdue <= self._running.keys()
        assert self._stopped <= self._running.keys()
        assert len(self._remembered) <= MAX_REMEMBERED
        assert len(self._refused) <= MAX_REFUSED
        self._waiting.check()
        self._times.check()

    def _takes_no_more(self, now_ns: int) -> bool:
        if self._draining_since_ns is None or self._closing:
            return self._closing
        if self._gone_ns is not None and now_ns >= self._gone_ns:
            return True
        return self.is_idle and now_ns - self._draining_since_ns >= UNDER_WAY_NS

    def _hand_back(self, now_ns: int) -> list[AdmissionAction]:
        """Those that wait and cannot be done before the machine goes."""
        room = self._room(now_ns)
        if len(self._waiting) <= room:
            return []
        late = sorted(self._waiting, key=lambda job: (-job.priority, job.order))[room:]
        for job in late:
            self._waiting.remove(job.request_id)
        return [action for job in late for action in self._turned_away(job, "leaving", f"{LEAVING}, and had no time")]

    def _room(self, now_ns: int) -> int:
        """How many more runs of the usual length end before the machine goes; any number where nothing is known."""
        if self._gone_ns is None:
            return self._max_queue + 1
        left_ns, each_ns = self._gone_ns - now_ns, self._times.typical_ns
        if left_ns <= 0 or not each_ns:
            return self._max_queue + 1 if left_ns > 0 else 0
        rests = [max(0, each_ns - (now_ns - job.started_ns)) for job in self._running.values()]
        rests += [0] * (self._concurrency - len(rests))
        return sum(max(0, left_ns - rest_ns) // each_ns for rest_ns in rests)

    def _queue(self, job: Job, now_ns: int) -> list[AdmissionAction]:
        """Let it wait, unless that is hopeless or there is no room; somebody else may have to go for it."""
        self._times.forget(now_ns)
        actions = self._drop_late(now_ns)
        short_ns = self._short_by_ns(job, now_ns)
        if short_ns > 0:
            more_ms, left_ms = _in_ms(short_ns), (job.deadline_ns - now_ns) // MS
            text = f"no time for it: about {more_ms} ms more than its {left_ms} ms needed"
            return [*actions, *self._refuse(job, Status.NOT_EXECUTED, "hopeless", text, more_ms)]
        if len(self._waiting) >= self._max_queue:
            full = f"{len(self._waiting)} requests wait already (max_queue {self._max_queue})"
            retry_after_ms = self._retry_after_ms(now_ns)
            victim = self._waiting.victim(job.robot, job.priority)
            if victim is None:
                return [*actions, *self._refuse(job, Status.NOT_EXECUTED, "full", full, retry_after_ms)]
            self._waiting.remove(victim.request_id)
            actions += self._turned_away(victim, "full", f"made room for another: {full}", retry_after_ms)
        self._waiting.add(job)
        return actions

    def _short_by_ns(self, job: Job, now_ns: int) -> int:
        """By how much a newcomer's time is too short for its wait and its work, rather too little than too much."""
        low_ns = self._times.low_ns
        if not low_ns:
            return 0
        rest_ns = min(low_ns - (now_ns - other.started_ns) for other in self._running.values())
        ahead = self._waiting.ahead_of(job.robot, job.priority, self._times.typical_ns)
        wait_ns = max(0, rest_ns) + ahead * self._times.slot_ns // self._concurrency
        return max(0, wait_ns + low_ns - (job.deadline_ns - now_ns))

    def _retry_after_ms(self, now_ns: int) -> int:
        """Until about half of the queue, or one slot, is free; while no run has ended, as long as the oldest runs."""
        oldest_ns = now_ns - min((job.started_ns for job in self._running.values()), default=now_ns)
        each_ns = self._times.slot_ns or oldest_ns
        return _in_ms(max(1, len(self._waiting) // 2) * each_ns // self._concurrency)

    def _remember(self, request_id: RequestId, now_ns: int) -> None:
        self._remembered[request_id] = now_ns
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _refuse(
        self, job: Job, status: Status, reason: Reason, message: str, retry_after_ms: int = 0
    ) -> list[AdmissionAction]:
        if status is Status.NOT_EXECUTED:
            self._note_refusal(job)
        return [Refuse(job.request_id, ticket, status, reason, message, retry_after_ms) for ticket in job.tickets]

    def _note_refusal(self, job: Job) -> None:
        """What was said not to run must not, should the same copy of it come again."""
        self._refused[job.request_id] = max(job.attempt, self._refused.pop(job.request_id, -1))
        if len(self._refused) > MAX_REFUSED:
            self._refused.popitem(last=False)

    def _turned_away(self, job: Job, reason: Reason, message: str, retry_after_ms: int = 0) -> list[AdmissionAction]:
        """It waited, and waits no more, and never ran."""
        self._times.left(0)
        return self._refuse(job, Status.NOT_EXECUTED, reason, message, retry_after_ms)

    def _stop(self, request_id: RequestId) -> list[AdmissionAction]:
        """Once, and only what runs."""
        if not self._can_stop or request_id not in self._running or request_id in self._stopped:
            return []
        self._stopped.add(request_id)
        return [Stop(request_id)]

    def _start(self, job: Job, now_ns: int) -> Start:
        self._waiting.start(job, self._times.typical_ns)
        job.started_ns = now_ns
        self._running[job.request_id] = job
        self.started += 1
        return Start(job.request_id, job.tickets[0], (job.deadline_ns - now_ns) // MS, job.queued_ns)

    def _end(self, job: Job, now_ns: int) -> None:
        """Its slot is free."""
        del self._running[job.request_id]
        self._overdue.discard(job.request_id)
        self._stopped.discard(job.request_id)
        self._waiting.end(job, now_ns - job.started_ns)
        self._times.left(now_ns - job.started_ns)

    def _drop_late(self, now_ns: int) -> list[AdmissionAction]:
        late = self._waiting.remove_due(now_ns + self._times.low_ns)
        return [action for job in late for action in self._turned_away(job, "late", "its time ran out in the queue")]

    def _fill(self, now_ns: int) -> list[AdmissionAction]:
        handed_back = self._hand_back(now_ns)
        if not self._waiting or len(self._running) >= self._concurrency:
            return handed_back
        actions = handed_back + self._drop_late(now_ns)
        while self._waiting and len(self._running) < self._concurrency:
            actions.append(self._start(self._waiting.next(), now_ns))
        return actions


def _in_ms(duration_ns: int) -> int:
    """Rounded up, at least 1, bounded."""
    return min(MAX_RETRY_AFTER_MS, max(1, -(-duration_ns // MS)))
