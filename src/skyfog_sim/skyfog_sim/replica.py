"""A replica as its processes, one after another: the production Admission in front of a modelled service.

A frozen process does nothing until it thaws and then all that it missed. A killed one is replaced by another with a
new boot number, which remembers nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from skyfog_core.errors import Status
from skyfog_core.ids import RequestId
from skyfog_core.units import MS, US, S
from skyfog_core.wire.envelope import VERSION, Header, ReplyHeader
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.kept import Kept
from skyfog_router.policy.admission import Admission, AdmissionAction, Answer, Refuse, Start, Stop
from skyfog_sim.durations import Duration
from skyfog_sim.kernel import Alarm, Kernel

TYPE_HASH = bytes(32)
STOP_NS = 2 * MS  # until a service that polls sees that it is to stop
LEAK_SLOWDOWN = 4.0  # of the last request before the memory is gone


@dataclass(frozen=True, slots=True)
class ReplicaModel:
    """How fast one replica is, and what it takes."""

    who: ReplicaKey
    service: Duration
    concurrency: int = 1
    max_queue: int = 2
    price_per_hour: float = 0.0
    can_abandon: bool = False
    can_stop: bool = False
    quality: float = 0.0  # of its answers: less is better
    wrong: bool = False  # gives another answer than the others
    owner: str = ""  # the robot that it stands on; empty: in the cloud, for all
    type_hash: bytes = TYPE_HASH

    def admission(self) -> Admission:
        return Admission(
            self.type_hash, self.concurrency, self.max_queue, 300 * S, self.can_abandon, can_stop=self.can_stop
        )


@dataclass(frozen=True, slots=True)
class Body:
    """A response: the request that it answers, and what policies may look at."""

    request_id: RequestId
    value: int
    quality: float


@dataclass(frozen=True, slots=True)
class Result:
    """What the service made of a request."""

    status: Status
    body: Body | None = None
    message: str = ""
    service_ns: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What arrives at the robot; without a header, bytes that nobody can read."""

    header: ReplyHeader | None
    body: Body | None = None


class Ticket(Protocol):
    """How to answer one query."""

    def reply(self, reply: Reply) -> None: ...


class Watcher(Protocol):
    """Who looks on: the invariants and the history."""

    def started(self, process: Process, request_id: RequestId) -> None: ...
    def finished(self, process: Process, request_id: RequestId, status: Status) -> None: ...
    def policy(self, policy: Any) -> None: ...


@dataclass(slots=True)
class Mood:
    """What is wrong with a replica at present, whichever process it is."""

    slowness: float = 1.0
    garbage: bool = False  # answers bytes that are no reply
    failing: bool = False  # says that it failed
    declining: bool = False  # the service itself says that it did not run


class Process:
    """One run of a replica, from its start to its kill."""

    def __init__(
        self, kernel: Kernel, random: Random, model: ReplicaModel, mood: Mood, desk: Admission, boot: int,
        watcher: Watcher,
    ) -> None:  # fmt: skip
        self._kernel, self._random, self._watcher = kernel, random, watcher
        self.model, self.mood, self.desk, self.boot = model, mood, desk, boot
        self.who = model.who
        self.name = str(model.who)
        self.frozen = self.killed = self.draining = False
        self.leak: int | None = None  # requests until its memory is gone
        self.on_memory_gone: Callable[[], None] = self.kill
        self.jobs: dict[RequestId, int] = {}  # started and not finished: when
        self._kept: Kept[Result] = Kept()
        self._leak_from = 1
        self._held: list[Callable[[], None]] = []
        self._alarm = Alarm(kernel, desk.next_timer_ns, lambda: self.do(self._on_timer))

    @property
    def announced(self) -> Announcement | None:
        """The token that it holds."""
        if self.killed or self.draining:
            return None
        model = self.model
        return Announcement(
            boot=self.boot, price_per_hour=model.price_per_hour, capacity=model.concurrency, local=bool(model.owner)
        )

    def do(self, call: Callable[[], None]) -> None:
        """Run `call` in this process: now, when it thaws, or never."""
        if self.frozen:
            self._held.append(call)
        elif not self.killed:
            call()
            self._watcher.policy(self.desk)
            self._alarm.reset()

    def on_query(self, header: Header, ticket: Ticket) -> None:
        self._perform(self.desk.on_query(header, ticket, self._kernel.now_ns))

    def on_cancel(self, request_id: RequestId) -> None:
        self._perform(self.desk.on_cancel(request_id))

    def kill(self) -> None:
        """Nothing of it remains."""
        self.killed, self.frozen = True, False
        self.jobs.clear()
        self._held.clear()

    def thaw(self) -> None:
        """Go on, with all that came meanwhile."""
        self.frozen = False
        held, self._held = self._held, []
        for call in held:
            self.do(call)

    def drain(self, draining: bool) -> None:
        """Drop the token and take nothing new, or hold it again. The sessions have to tell of it."""
        self.draining = draining
        self.desk.drain(draining, self._kernel.now_ns)

    def terminate(self) -> None:
        """SIGTERM: finish what is here, take no more."""
        self.draining = True
        self.desk.close()

    def end(self) -> None:
        """The end of a process that was told to terminate: who still waits is answered."""
        self._perform(self.desk.end())

    def work_ns(self, _request_id: RequestId) -> int:
        """How long the service takes for a request that starts now, in a good mood."""
        return self.model.service.draw(self._random)

    def begin_leak(self, requests: int) -> None:
        """From now on each request costs memory that is never given back."""
        self.leak = self._leak_from = max(1, requests)

    def _on_timer(self) -> None:
        self._perform(self.desk.on_timer(self._kernel.now_ns))
        due_ns = self.desk.next_timer_ns()
        assert due_ns is None or due_ns > self._kernel.now_ns, "admission wants to be woken for what it just did"

    def _perform(self, actions: list[AdmissionAction]) -> None:
        for action in actions:
            match action:
                case Start():
                    self._start(action.request_id)
                case Stop():
                    assert action.request_id in self.jobs, f"{action}, which does not run"
                    self._later(STOP_NS, action.request_id, self.jobs[action.request_id], stopped=True)
                case Answer():
                    self._answer(action.ticket, action.request_id, action.result, action.queued_ns)
                case Refuse():
                    kept = self._kept.find(action.request_id) if action.status is Status.OUTCOME_UNKNOWN else None
                    result = kept or Result(action.status, message=action.message)
                    self._answer(action.ticket, action.request_id, result, 0, action.retry_after_ms)

    def _start(self, request_id: RequestId) -> None:
        self._watcher.started(self, request_id)
        self.jobs[request_id] = self._kernel.now_ns
        took_ns = self.work_ns(request_id) * self.mood.slowness
        if self.leak is not None:
            self.leak -= 1
            took_ns *= 1 + (LEAK_SLOWDOWN - 1) * (1 - max(0, self.leak) / self._leak_from)
            if self.leak <= 0:
                self._kernel.after(0, self.on_memory_gone)
        self._later(round(took_ns), request_id, self._kernel.now_ns)

    def _later(self, after_ns: int, request_id: RequestId, began_ns: int, stopped: bool = False) -> None:
        def done() -> None:
            if self.jobs.get(request_id) == began_ns:
                self.do(lambda: self._done(request_id, stopped))

        self._kernel.after(after_ns, done)

    def _done(self, request_id: RequestId, stopped: bool) -> None:
        began_ns = self.jobs.pop(request_id, None)
        if began_ns is None:
            return  # a stopped one that ended by itself while the process was frozen
        now_ns = self._kernel.now_ns
        result = self._result(request_id, now_ns - began_ns, stopped)
        self._watcher.finished(self, request_id, result.status)
        ran = result.status is not Status.NOT_EXECUTED
        if ran:
            self._kept.keep(request_id, result, 0)
        self._perform(self.desk.on_done(request_id, result, now_ns, ran))

    def _result(self, request_id: RequestId, service_ns: int, stopped: bool) -> Result:
        if stopped:
            return Result(Status.FAILED, message="stopped", service_ns=service_ns)
        if self.mood.failing:
            return Result(Status.FAILED, message="the service raised", service_ns=service_ns)
        if self.mood.declining:
            return Result(Status.NOT_EXECUTED, message="the service declined", service_ns=service_ns)
        value = -self.boot if self.model.wrong else int.from_bytes(request_id[8:], "big")
        return Result(Status.OK, Body(request_id, value, self.model.quality), service_ns=service_ns)

    def _answer(
        self, ticket: Ticket, request_id: RequestId, result: Result, queued_ns: int, retry_after_ms: int = 0
    ) -> None:
        if self.mood.garbage:
            ticket.reply(Reply(None))
            return
        header = ReplyHeader(
            VERSION,
            request_id,
            result.status,
            result.service_ns // US,
            self.desk.depth,
            result.message,
            queued_ns // US,
            self.desk.running_beside(request_id),
            retry_after_ms,
        )
        ticket.reply(Reply(header, result.body))
