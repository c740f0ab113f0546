"""The replica's driver: one thread owns the admission policy; handlers run the service and report back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from skyfog_core import budget
from skyfog_core.clock import Clock
from skyfog_core.errors import Overloaded, Status, UnsupportedVersion, WireError
from skyfog_core.ids import REQUEST_ID_BYTES, RequestId
from skyfog_core.owner import SNAPSHOT_LIMIT_S, Owner
from skyfog_core.trace import Trace
from skyfog_core.units import MS, US, ms_to_ns
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, Encoding, ReplyHeader, refusal
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.membership import Announcement
from skyfog_core.wire.payload import pack, unpack
from skyfog_router.kept import Kept
from skyfog_router.policy.admission import Admission, AdmissionAction, Answer, Refuse, Start, Stop
from skyfog_router.policy.snapshot import AdmissionSnapshot
from skyfog_router.transport.base import Query, ReplicaTransport

log = structlog.get_logger()

NO_REQUEST = bytes(REQUEST_ID_BYTES)  # in a reply to bytes that name no request


@dataclass(frozen=True, slots=True)
class Result:
    """What a handler made of a request: CDR of the response where `status` is OK."""

    status: Status
    payload: bytes = b""
    message: str = ""
    service_us: int = 0


class Handler(Protocol):
    """Runs the service. `done` is called exactly once for each started request, from any thread.

    While `start` runs, `skyfog_core.budget` holds the request's deadline.
    """

    can_abandon: bool
    can_stop: bool

    def start(self, request_id: RequestId, payload: bytes, done: Callable[[Result], None]) -> None:
        """Begin; must return at once."""

    def stop(self, request_id: RequestId) -> None:
        """Nobody wants this request's result; must return at once. Only where `can_stop`; `done` is called as ever."""

    def close(self) -> None:
        """Wait for nothing; let go of threads and clients."""


class ReplicaDriver:
    """Puts a handler on the fleet's network."""

    def __init__(
        self,
        transport: ReplicaTransport,
        handler: Handler,
        admission: Admission,
        clock: Clock,
        trace: Trace,
        inbox_limit: int = 4_096,
        encoding: Encoding = Encoding.PLAIN,
    ) -> None:
        self._transport = transport
        self._handler = handler
        self._admission = admission
        self._clock = clock
        self._trace = trace
        self._kept: Kept[Result] = Kept()
        self._encoding = encoding  # of large replies, to robots that accept it
        self._refused: Counter[str] = Counter()  # by reason
        self._received = self._runs_ended = self._runs_failed = self._busy_us = 0
        self._owner = Owner("replica-driver", clock, self._on_timer, inbox_limit)
        self._announcing = threading.Lock()
        self._leaving = False
        self._finished: Callable[[], None] | None = None
        self._finish_by_ns = 0

    def start(self, keys: ServiceKeys, who: ReplicaKey) -> None:
        """Take queries; nobody knows of this replica before `announce(True)`."""
        self._owner.start()
        self._transport.serve(keys, who, self)

    def announce(self, announcement: Announcement | None) -> None:
        """Hold a liveliness token that says this, or none; none any more once `finish` was called. Any thread."""
        with self._announcing:
            if not self._leaving:
                self._transport.announce(announcement)

    def drain(self, draining: bool, within_ms: int | None = None) -> None:
        """Without a token: finish what is here and was under way to here, then take no more; or take requests again.

        `within_ms`: the machine is gone then; what cannot be done before is handed back. Any thread.
        """
        within_ns = None if within_ms is None else within_ms * MS
        self._owner.post(lambda now_ns: self._perform(self._admission.drain(draining, now_ns, within_ns)))

    def finish(self, limit_ms: int, done: Callable[[], None]) -> None:
        """Drop the token, take no more, call `done` when nothing is left or `limit_ms` is over. Any thread, once."""
        with self._announcing:
            self._leaving = True
            self._transport.announce(None)
        self._owner.post(lambda now_ns: self._begin_to_finish(now_ns + limit_ms * MS, done))

    def links(self) -> int:
        """How many processes this replica is connected with. Any thread."""
        return self._transport.links()

    def tell_load(self, load: bytes) -> None:
        """Put a load report (wire/load.py) on the network. Any thread; lost where nobody listens."""
        self._transport.tell_load(load)

    def snapshot(self, limit_s: float = SNAPSHOT_LIMIT_S) -> AdmissionSnapshot:
        """What this replica does. Any thread but the driver's. Raises Overloaded where it is too busy."""
        return self._owner.ask(self._snapshot, limit_s)

    def close(self) -> None:
        """Drop the token, tell whoever still waits, end the thread, leave the network."""
        self._transport.announce(None)
        self._owner.close(self._end)
        self._handler.close()
        self._transport.close()
        self._trace.close()

    # ReplicaEvents, from the transport's threads

    def query(self, query: Query) -> None:
        try:
            self._owner.submit(lambda now_ns: self._on_query(query, now_ns))
        except Overloaded as error:
            query.answer(codec.encode(refusal(NO_REQUEST, Status.NOT_EXECUTED, str(error))), b"")

    def cancelled(self, request_id: RequestId) -> None:
        self._owner.post(lambda _now_ns: self._perform(self._admission.on_cancel(request_id)))

    # in the driver's thread

    def _on_query(self, query: Query, now_ns: int) -> None:
        self._received += 1
        try:
            header = codec.decode_header(query.header)
            query.payload, query.accepts = unpack(query.payload, header.encoding), header.accepts
        except WireError as error:
            kind = "UnsupportedVersion" if isinstance(error, UnsupportedVersion) else "WireError"
            log.warning("query_refused", error=kind, why=str(error))
            self._refused["unreadable"] += 1
            query.answer(codec.encode(refusal(NO_REQUEST, Status.NOT_EXECUTED, str(error))), b"")
            return
        self._trace.event("query", now_ns, id=header.request_id.hex(), budget_ms=header.budget_ms)
        self._perform(self._admission.on_query(header, query, now_ns))

    def _snapshot(self, now_ns: int) -> AdmissionSnapshot:
        admission = self._admission
        concurrency, max_queue = admission.bounds
        return AdmissionSnapshot(
            concurrency=concurrency,
            max_queue=max_queue,
            running=admission.running,
            waiting=admission.depth,
            started=admission.started,
            finished=self._runs_ended,
            failed=self._runs_failed,
            repeated=admission.duplicates,
            refused=dict(self._refused),
            received=self._received,
            busy_us=self._busy_us,
            draining=admission.is_draining,
            drained=admission.is_drained(now_ns),
        )

    def _on_done(self, request_id: RequestId, result: Result, now_ns: int) -> None:
        self._trace.event("done", now_ns, id=request_id.hex(), status=int(result.status), us=result.service_us)
        self._runs_ended += 1
        self._runs_failed += result.status is not Status.OK
        self._busy_us += result.service_us
        ran = result.status is not Status.NOT_EXECUTED
        self._perform(self._admission.on_done(request_id, result, now_ns, ran))

    def _begin_to_finish(self, by_ns: int, done: Callable[[], None]) -> None:
        self._admission.close()
        self._finish_by_ns, self._finished = by_ns, done

    def _end(self, _now_ns: int) -> None:
        self._perform(self._admission.end())
        self._admission.check()

    def _on_timer(self, now_ns: int) -> int | None:
        due = self._admission.next_timer_ns()
        if due is not None and due <= now_ns:
            self._perform(self._admission.on_timer(now_ns))
            due = self._admission.next_timer_ns()
        if self._finished is None:
            return due
        if not self._admission.is_idle and now_ns < self._finish_by_ns:
            return self._finish_by_ns if due is None else min(due, self._finish_by_ns)
        done, self._finished = self._finished, None
        done()
        return due

    def _perform(self, actions: list[AdmissionAction]) -> None:
        for action in actions:
            match action:
                case Start():
                    self._start(action)
                case Stop():
                    self._handler.stop(action.request_id)
                case Answer():
                    self._answer(action.request_id, action.ticket, action.result, action.queued_ns)
                case Refuse():
                    self._refused[action.reason] += 1
                    kept = self._kept.find(action.request_id) if action.status is Status.OUTCOME_UNKNOWN else None
                    result = kept or Result(action.status, message=action.message)
                    self._answer(action.request_id, action.ticket, result, retry_after_ms=action.retry_after_ms)

    def _start(self, action: Start) -> None:
        request_id, query = action.request_id, action.ticket

        def done(result: Result) -> None:
            if result.status is not Status.NOT_EXECUTED:
                self._kept.keep(request_id, result, len(result.payload))
            # From the handler's thread: one change of threads less.
            self._answer(request_id, query, result, action.queued_ns)
            self._owner.post(lambda now_ns: self._on_done(request_id, result, now_ns))

        with budget.until(self._clock.now_ns() + ms_to_ns(action.budget_ms)):
            self._handler.start(request_id, query.payload, done)

    def _answer(
        self, request_id: RequestId, query: Query, result: Result, queued_ns: int = 0, retry_after_ms: int = 0
    ) -> None:
        encoding, payload = pack(result.payload, min(self._encoding, query.accepts))
        header = ReplyHeader(
            VERSION,
            request_id,
            result.status,
            result.service_us,
            self._admission.depth,
            result.message[:1_000],
            queued_ns // US,
            self._admission.running_beside(request_id),
            retry_after_ms,
            encoding,
        )
        query.answer(codec.encode(header), payload)
