"""A robot: the production Router, and a driver that performs its actions on modelled links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import ERROR_OF_STATUS, InvalidReply, NotExecuted, RequestError, Status
from skyfog_core.ids import RequestId, RequestIds
from skyfog_core.units import MS, US
from skyfog_core.wire.envelope import VERSION, Header
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import NO_LOAD, Action, Cancel, Load, Send
from skyfog_router.policy.router import Router
from skyfog_sim.kernel import Alarm, Kernel
from skyfog_sim.net import Query, Session
from skyfog_sim.replica import TYPE_HASH, Process, Reply


@dataclass(frozen=True, slots=True)
class RobotModel:
    """One robot and what its clients want."""

    name: str
    zone: str = ""


class Watcher(Protocol):
    """Who looks on: the invariants and the history."""

    def called(self, robot: Robot, request_id: RequestId) -> None: ...
    def joined(self, robot: Robot, replica: ReplicaKey, announcement: Announcement) -> None: ...
    def left(self, robot: Robot, replica: ReplicaKey, announcement: Announcement) -> None: ...
    def heard(self, robot: Robot, request_id: RequestId, replica: ReplicaKey, error: RequestError | None) -> None: ...
    def ended(self, robot: Robot, request_id: RequestId, replica: ReplicaKey) -> None: ...
    def acted(self, robot: Robot, action: Action) -> None: ...
    def policy(self, policy: Router) -> None: ...


class Robot:
    """Owns one router. `session` finds the session with whoever serves as a replica now, or None."""

    def __init__(
        self,
        kernel: Kernel,
        model: RobotModel,
        number: int,
        config: RoutingConfig,
        router: Router,
        session: Callable[[ReplicaKey], tuple[Session, Process] | None],
        watcher: Watcher,
    ) -> None:
        self._kernel, self._session, self._watcher = kernel, session, watcher
        self.model, self.name, self.config, self.router = model, model.name, config, router
        self.stopped = False
        self._ids = RequestIds(number.to_bytes(8, "big"))
        self._asked: dict[tuple[RequestId, ReplicaKey], tuple[Session, Process]] = {}
        self._alarm = Alarm(kernel, router.next_timer_ns, self._on_timer)

    @property
    def outstanding(self) -> int:
        """Queries that have not ended."""
        return len(self._asked)

    def call(self) -> None:
        """A client calls."""
        if self.stopped:
            return
        request_id = self._ids.next()
        self._watcher.called(self, request_id)
        self._perform(self.router.on_call(request_id, self._kernel.now_ns))

    def stop(self) -> None:
        """The proxy shuts down; what is open fails."""
        self.stopped = True
        self._perform(self.router.close(NotExecuted("the robot's proxy is shutting down"), self._kernel.now_ns))

    def reconfigure(self, config: RoutingConfig) -> None:
        """Route what comes from now on in another way."""
        self.config = config
        self._perform(self.router.reconfigure(config, self._kernel.now_ns))

    # net.RobotEnd

    def on_join(self, replica: ReplicaKey, announcement: Announcement) -> None:
        if not self.stopped:
            self._watcher.joined(self, replica, announcement)
            self._perform(self.router.on_join(replica, announcement, self._kernel.now_ns))

    def on_leave(self, replica: ReplicaKey, announcement: Announcement) -> None:
        if not self.stopped:
            self._watcher.left(self, replica, announcement)
            self._perform(self.router.on_leave(replica, announcement, self._kernel.now_ns))

    def on_ended(self, request_id: RequestId, replica: ReplicaKey) -> None:
        self._asked.pop((request_id, replica), None)
        self._watcher.ended(self, request_id, replica)
        if self.router.is_open(request_id):
            self._perform(self.router.on_ended(request_id, replica, self._kernel.now_ns))

    def on_reply(self, query: Query, replica: ReplicaKey, reply: Reply) -> None:
        request_id, now_ns = query.request_id, self._kernel.now_ns
        error = _error(reply, request_id)
        self._watcher.heard(self, request_id, replica, error)
        if not self.router.is_open(request_id):
            return
        if error is None:
            self._perform(self.router.on_reply(request_id, replica, reply.body, now_ns, _load(reply)))
        else:
            self._perform(self.router.on_error(request_id, replica, error, now_ns, _load(reply)))

    def _on_timer(self) -> None:
        self._perform(self.router.on_timer(self._kernel.now_ns))
        due_ns = self.router.next_timer_ns()
        assert due_ns is None or due_ns > self._kernel.now_ns, "the router wants to be woken for what it just did"

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            self._watcher.acted(self, action)
            match action:
                case Send():
                    self._send(action)
                case Cancel():
                    self._cancel(action)
        self._watcher.policy(self.router)
        self._alarm.reset()

    def _send(self, action: Send) -> None:
        request_id, replica = action.request_id, action.replica
        header = Header(
            VERSION, request_id, action.attempt, action.budget_ms, TYPE_HASH, self.config.priority, self.name
        )
        found = self._session(replica)
        if found is None:  # zenoh: nobody holds the key
            self._kernel.after(0, lambda: self.on_ended(request_id, replica))
            return
        session, process = found

        def arrive(query: Query) -> None:
            process.do(lambda: process.on_query(header, _Ticket(self, query, replica)))

        session.ask(request_id, action.budget_ms * MS, arrive)
        self._asked[request_id, replica] = session, process

    def _cancel(self, action: Cancel) -> None:
        asked = self._asked.get((action.request_id, action.replica))
        if asked is not None:
            session, process = asked
            session.withdraw(action.request_id, lambda: process.do(lambda: process.on_cancel(action.request_id)))


@dataclass(frozen=True, slots=True)
class _Ticket:
    """How a process answers one query of a robot."""

    robot: Robot
    query: Query
    replica: ReplicaKey

    def reply(self, reply: Reply) -> None:
        self.query.session.answer(self.query, lambda: self.robot.on_reply(self.query, self.replica, reply))


def _load(reply: Reply) -> Load:
    """What the production driver tells the router of the replica."""
    header = reply.header
    if header is None:
        return NO_LOAD
    return Load(
        service_ns=header.service_us * US,
        queue_ns=header.queue_us * US,
        queue_depth=header.queue_depth,
        running=header.running,
        retry_after_ns=header.retry_after_ms * MS,
    )


def _error(reply: Reply, request_id: RequestId) -> RequestError | None:
    """What the production driver makes of a reply without a result; None for a valid one."""
    if reply.header is None:
        return InvalidReply("not a reply of this version")
    if reply.header.status is not Status.OK:
        return ERROR_OF_STATUS[reply.header.status](reply.header.message)
    if reply.header.request_id != request_id or reply.body is None:
        return InvalidReply("the reply names another request")
    return None
