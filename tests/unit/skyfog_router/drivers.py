"""Both drivers without threads: their inbox is worked off by hand, and a fake link joins them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from skyfog_core import budget
from skyfog_core.clock import ManualClock
from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import Overloaded, RequestError
from skyfog_core.ids import RequestId
from skyfog_core.trace import MemoryTrace
from skyfog_core.units import S
from skyfog_core.wire.envelope import Encoding
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Deliver
from skyfog_router.policy.admission import Admission
from skyfog_router.policy.router import Router
from skyfog_router.replica import ReplicaDriver, Result
from skyfog_router.robot import Endpoint, RouterDriver
from skyfog_router.transport.base import ReplicaEvents, RouterEvents
from support.owners import StepOwner

HASH = bytes(32)
SERVICE = "/echo"
KEYS = ServiceKeys("test", SERVICE)
SAID = Announcement()


@dataclass
class FakeQuery:
    """A query that remembers how it was answered."""

    header: bytes
    payload: bytes
    accepts: Encoding = Encoding.PLAIN
    on_answer: Callable[[bytes, bytes], None] = lambda _header, _payload: None
    answers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def answer(self, header: bytes, payload: bytes) -> None:
        self.answers.append((header, payload))
        if len(self.answers) == 1:
            self.on_answer(header, payload)


class FakeRouterTransport:
    """The robot's end of the link. Notes what is sent; joined to replicas by `attach`."""

    def __init__(self) -> None:
        self.sent: list[tuple[ReplicaKey, RequestId, bytes, bytes, int]] = []
        self.cancelled: list[tuple[ReplicaKey, RequestId]] = []
        self.refuse: Overloaded | None = None
        self.closed = False
        self.events: RouterEvents | None = None
        self.replicas: dict[ReplicaKey, FakeReplicaTransport] = {}
        self.loads: list[tuple[str, str, bytes]] = []

    def watch(self, service: str, keys: ServiceKeys, events: RouterEvents) -> None:
        self.events = events

    def send(
        self, service: str, replica: ReplicaKey, request_id: RequestId, header: bytes, payload: bytes, budget_ms: int
    ) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.sent.append((replica, request_id, header, payload, budget_ms))
        peer = self.replicas.get(replica)
        if peer is not None:
            assert self.events is not None
            events = self.events

            def on_answer(reply: bytes, result: bytes) -> None:
                events.reply(service, request_id, replica, reply, result)
                events.ended(service, request_id, replica)

            peer.arrive(FakeQuery(header, payload, on_answer=on_answer))

    def tell_load(self, service: str, robot: str, load: bytes) -> None:
        self.loads.append((service, robot, load))

    def cancel(self, service: str, replica: ReplicaKey, request_id: RequestId) -> None:
        self.cancelled.append((replica, request_id))
        peer = self.replicas.get(replica)
        if peer is not None and peer.events is not None:
            peer.events.cancelled(request_id)

    def close(self) -> None:
        self.closed = True


class FakeReplicaTransport:
    """The replica's end of the link."""

    def __init__(self) -> None:
        self.events: ReplicaEvents | None = None
        self.announced: list[Announcement | None] = []
        self.loads: list[bytes] = []
        self.closed = False

    def serve(self, keys: ServiceKeys, who: ReplicaKey, events: ReplicaEvents) -> None:
        self.events = events

    def announce(self, announcement: Announcement | None) -> None:
        self.announced.append(announcement)

    def tell_load(self, load: bytes) -> None:
        self.loads.append(load)

    def links(self) -> int:
        return 1

    def arrive(self, query: FakeQuery) -> None:
        assert self.events is not None
        self.events.query(query)

    def close(self) -> None:
        self.closed = True


class HeldHandler:
    """A service whose results the test gives."""

    def __init__(self, can_abandon: bool = False, can_stop: bool = False) -> None:
        self.can_abandon, self.can_stop = can_abandon, can_stop
        self.stopped: list[RequestId] = []
        self.running: dict[RequestId, tuple[bytes, Callable[[Result], None]]] = {}
        self.due_ns: list[int | None] = []  # the budget that each request began with
        self.closed = False

    def start(self, request_id: RequestId, payload: bytes, done: Callable[[Result], None]) -> None:
        assert request_id not in self.running
        self.due_ns.append(budget.deadline_ns())
        self.running[request_id] = (payload, done)

    def stop(self, request_id: RequestId) -> None:
        self.stopped.append(request_id)

    def finish(self, result: Result) -> None:
        """End the oldest request."""
        _, done = self.running.pop(next(iter(self.running)))
        done(result)

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeCaller:
    """Who waits for one request."""

    heard: list[object] = field(default_factory=list)

    def deliver(self, answer: Deliver) -> None:
        self.heard.append(answer.response)

    def fail(self, error: RequestError) -> None:
        self.heard.append(error)


class Robot:
    """A RouterDriver with its transport, clock and trace."""

    def __init__(
        self,
        clock: ManualClock,
        decode: Callable[[bytes], object] = bytes,
        max_in_flight: int = 8,
        encoding: Encoding = Encoding.PLAIN,
        name: str = "",
    ) -> None:
        self.transport, self.trace, self.clock = FakeRouterTransport(), MemoryTrace(), clock
        self.router = Router(RoutingConfig(policy="broadcast", deadline_ms=100, max_in_flight=max_in_flight))
        self.driver = RouterDriver(self.transport, clock, self.trace, max_in_flight, name)
        self.owner = StepOwner.made[-1]
        self.driver.start([Endpoint(SERVICE, KEYS, HASH, decode, self.router, encoding=encoding)])

    def call(self, payload: bytes = b"request", **how: Any) -> FakeCaller:
        caller = FakeCaller()
        self.driver.call(SERVICE, payload, caller, **how)
        self.owner.step()
        return caller

    def join(self, *replicas: ReplicaKey) -> None:
        for replica in replicas:
            self.driver.joined(SERVICE, replica, SAID)
        self.owner.step()

    def reply(self, replica: ReplicaKey, header: bytes, payload: bytes = b"") -> None:
        """`replica` answers the newest request that it was sent."""
        request_id = next(i for r, i, *_ in reversed(self.transport.sent) if r == replica)
        self.driver.reply(SERVICE, request_id, replica, header, payload)
        self.owner.step()


class Replica:
    """A ReplicaDriver with its transport and service."""

    def __init__(
        self,
        clock: ManualClock,
        concurrency: int = 1,
        max_queue: int = 4,
        inbox_limit: int = 16,
        abandon: bool = False,
        stop: bool = False,
        encoding: Encoding = Encoding.PLAIN,
    ) -> None:
        self.transport, self.handler, self.trace = FakeReplicaTransport(), HeldHandler(abandon, stop), MemoryTrace()
        self.admission = Admission(HASH, concurrency, max_queue, 10 * S, abandon, stop)
        self.driver = ReplicaDriver(
            self.transport, self.handler, self.admission, clock, self.trace, inbox_limit, encoding
        )
        self.owner = StepOwner.made[-1]
        self.driver.start(KEYS, ReplicaKey("a", "0"))


def settle(*ends: Robot | Replica) -> None:
    """Work off every inbox until all are empty."""
    while sum(end.owner.step() for end in ends):
        pass
