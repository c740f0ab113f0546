"""The robot's driver: one thread owns the routers of all services and performs their actions on a transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog

from skyfog_core.clock import Clock
from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import ERROR_OF_STATUS, InvalidReply, NotExecuted, RequestError, SkyfogError, Status, WireError
from skyfog_core.ids import RequestId, RequestIds
from skyfog_core.owner import SNAPSHOT_LIMIT_S, Owner
from skyfog_core.trace import Trace
from skyfog_core.units import MS, US, ns_to_ms
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, Encoding, Header, ReplyHeader
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.membership import Announcement
from skyfog_core.wire.payload import pack, unpack
from skyfog_router.policy.actions import NO_LOAD, Action, Cancel, Deliver, Eject, Fail, Load, Readmit, Send
from skyfog_router.policy.pacing import Pacer
from skyfog_router.policy.router import Router
from skyfog_router.policy.snapshot import ServiceSnapshot
from skyfog_router.transport.base import RouterTransport

log = structlog.get_logger()


class Caller(Protocol):
    """Who waits for one request. Called once, from the driver's thread."""

    def deliver(self, answer: Deliver) -> None: ...
    def fail(self, error: RequestError) -> None: ...


def _one() -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One service as the driver sees it.

    `decode` turns CDR into a response and raises InvalidReply; `clients` counts those who share the service's answers.
    """

    service: str
    keys: ServiceKeys
    type_hash: bytes
    decode: Callable[[bytes], Any]
    router: Router
    clients: Callable[[], int] = _one
    pacer: Pacer = field(default_factory=Pacer)
    encoding: Encoding = Encoding.PLAIN  # of large payloads, both ways


@dataclass(frozen=True, slots=True)
class _Call:
    payload: bytes
    encoding: Encoding
    caller: Caller
    affinity: bytes
    budget_ms: int | None
    type_hash: bytes


class RouterDriver:
    """Owns the routers of one robot and performs their actions on a transport."""

    def __init__(
        self, transport: RouterTransport, clock: Clock, trace: Trace, max_in_flight: int, robot: str = ""
    ) -> None:
        """`robot`: whose requests these are; replicas share their time fairly between robots."""
        self._robot = robot
        self._transport = transport
        self._trace = trace
        self._ids = RequestIds()
        self._endpoints: dict[str, Endpoint] = {}
        self._calls: dict[RequestId, _Call] = {}
        self._owner = Owner("router-driver", clock, self._on_timer, limit=max_in_flight)

    def start(self, endpoints: list[Endpoint]) -> None:
        """Follow the replicas of each service and begin to take calls."""
        self._endpoints = {endpoint.service: endpoint for endpoint in endpoints}
        self._owner.start()
        for endpoint in endpoints:
            self._transport.watch(endpoint.service, endpoint.keys, self)

    def call(
        self,
        service: str,
        payload: bytes,
        caller: Caller,
        affinity: bytes = b"",
        budget_ms: int | None = None,
        type_hash: bytes = b"",
    ) -> None:
        """Route one request (CDR). Any thread. `caller` hears exactly once, unless this raises Overloaded.

        Under `rank: sticky` requests of one `affinity` go to one replica. `budget_ms`: the time there is, where it may
        be less than the service's deadline. `type_hash`: of a payload that is only passed on, in place of the
        endpoint's; the replicas compare it with theirs.
        """
        endpoint = self._endpoints[service]
        encoding, packed = pack(payload, endpoint.encoding)  # here, since it may take the driver's thread too long
        call = _Call(packed, encoding, caller, affinity, budget_ms, type_hash or endpoint.type_hash)
        self._owner.submit(lambda now_ns: self._on_call(endpoint, call, now_ns))

    def reconfigure(self, configs: Mapping[str, RoutingConfig]) -> None:
        """Other rules for the services named, from their next requests on. Any thread."""
        self._owner.post(lambda now_ns: self._on_reconfigure(configs, now_ns))

    def snapshots(self, limit_s: float = SNAPSHOT_LIMIT_S) -> dict[str, ServiceSnapshot]:
        """What each service's router knows. Any thread but the driver's. Raises Overloaded where it is too busy."""
        return self._owner.ask(
            lambda now_ns: {name: endpoint.router.snapshot(now_ns) for name, endpoint in self._endpoints.items()},
            limit_s,
        )

    def tell_load(self, service: str, load: bytes) -> None:
        """Put a load report (wire/load.py) of one service on the network. Any thread; lost where nobody listens."""
        self._transport.tell_load(service, self._robot, load)

    def close(self) -> int:
        """Fail what is open, leave the network, end the thread. Returns how many calls were open."""
        open_calls = len(self._calls)
        self._owner.close(self._on_close)
        self._transport.close()
        self._trace.close()
        return open_calls

    # RouterEvents, from the transport's threads

    def reply(self, service: str, request_id: RequestId, replica: ReplicaKey, header: bytes, payload: bytes) -> None:
        self._owner.post(
            lambda now_ns: self._on_reply(self._endpoints[service], request_id, replica, header, payload, now_ns)
        )

    def ended(self, service: str, request_id: RequestId, replica: ReplicaKey) -> None:
        self._owner.post(lambda now_ns: self._on_ended(self._endpoints[service], request_id, replica, now_ns))

    def joined(self, service: str, replica: ReplicaKey, announcement: Announcement) -> None:
        if announcement.local and announcement.robot not in {"", self._robot}:
            return  # another robot's fallback
        self._owner.post(lambda now_ns: self._on_join(self._endpoints[service], replica, announcement, now_ns))

    def left(self, service: str, replica: ReplicaKey, announcement: Announcement) -> None:
        self._owner.post(lambda now_ns: self._on_leave(self._endpoints[service], replica, announcement, now_ns))

    # in the driver's thread

    def _on_call(self, endpoint: Endpoint, call: _Call, now_ns: int) -> None:
        request_id = self._ids.next()
        self._calls[request_id] = call
        self._perform(endpoint, endpoint.router.on_call(request_id, now_ns, call.affinity, call.budget_ms), now_ns)

    def _on_reply(
        self,
        endpoint: Endpoint,
        request_id: RequestId,
        replica: ReplicaKey,
        header: bytes,
        payload: bytes,
        now_ns: int,
    ) -> None:
        router = endpoint.router
        if not router.is_open(request_id):
            router.books.late += 1
            return
        load = NO_LOAD
        try:
            reply = codec.decode_reply_header(header)
            load = _load(reply)
            if reply.status is not Status.OK:
                raise ERROR_OF_STATUS[reply.status](reply.message)
            if reply.request_id != request_id:
                raise InvalidReply("the reply names another request")
            response = endpoint.decode(unpack(payload, reply.encoding))
        except WireError as error:
            self._bad_reply(endpoint, request_id, replica, InvalidReply(str(error)), now_ns)
        except RequestError as error:
            self._bad_reply(endpoint, request_id, replica, error, now_ns, load)
        else:
            actions = router.on_reply(request_id, replica, response, now_ns, load)
            if not any(isinstance(action, Deliver) for action in actions):  # a better one, or others, are waited for
                self._note("answered", now_ns, request_id, service=endpoint.service, replica=str(replica))
            self._perform(endpoint, actions, now_ns)

    def _bad_reply(
        self,
        endpoint: Endpoint,
        request_id: RequestId,
        replica: ReplicaKey,
        error: RequestError,
        now_ns: int,
        load: Load = NO_LOAD,
    ) -> None:
        kind = type(error).__name__
        log.warning("replica_refused", service=endpoint.service, replica=str(replica), error=kind, why=str(error))
        self._note(
            "refused",
            now_ns,
            request_id,
            service=endpoint.service,
            replica=str(replica),
            error=kind,
            why=str(error),
        )
        self._perform(endpoint, endpoint.router.on_error(request_id, replica, error, now_ns, load), now_ns)

    def _on_ended(self, endpoint: Endpoint, request_id: RequestId, replica: ReplicaKey, now_ns: int) -> None:
        if endpoint.router.is_open(request_id):
            self._perform(endpoint, endpoint.router.on_ended(request_id, replica, now_ns), now_ns)

    def _on_join(self, endpoint: Endpoint, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> None:
        log.info("replica_joined", service=endpoint.service, replica=str(replica))
        self._trace.event("joined", now_ns, service=endpoint.service, replica=str(replica))
        self._perform(endpoint, endpoint.router.on_join(replica, announcement, now_ns), now_ns)

    def _on_leave(self, endpoint: Endpoint, replica: ReplicaKey, announcement: Announcement, now_ns: int) -> None:
        log.info("replica_left", service=endpoint.service, replica=str(replica))
        self._trace.event("left", now_ns, service=endpoint.service, replica=str(replica))
        self._perform(endpoint, endpoint.router.on_leave(replica, announcement, now_ns), now_ns)

    def _on_reconfigure(self, configs: Mapping[str, RoutingConfig], now_ns: int) -> None:
        for service, config in configs.items():
            endpoint = self._endpoints[service]
            log.info("reconfigured", service=service, policy=config.policy, rank=config.rank)
            self._perform(endpoint, endpoint.router.reconfigure(config, now_ns), now_ns)

    def _on_timer(self, now_ns: int) -> int | None:
        due = []
        for endpoint in self._endpoints.values():
            next_ns = endpoint.router.next_timer_ns()
            if next_ns is not None and next_ns <= now_ns:
                self._perform(endpoint, endpoint.router.on_timer(now_ns), now_ns)
                next_ns = endpoint.router.next_timer_ns()
            for answer in endpoint.pacer.on_timer(endpoint.clients, now_ns):
                answer()
            due += [at for at in (next_ns, endpoint.pacer.next_timer_ns()) if at is not None]
        return min(due, default=None)

    def _on_close(self, now_ns: int) -> None:
        for endpoint in self._endpoints.values():
            self._perform(
                endpoint, endpoint.router.close(NotExecuted("the robot's proxy is shutting down"), now_ns), now_ns
            )
            for answer in endpoint.pacer.drain():
                answer()
            endpoint.router.check()

    def _perform(self, endpoint: Endpoint, actions: list[Action], now_ns: int) -> None:
        # The policy puts Deliver and Fail before the Cancels, so that the caller never waits for the losers.
        for action in actions:
            match action:
                case Send():
                    self._send(endpoint, action, now_ns)
                case Deliver():
                    self._deliver(endpoint, action, now_ns)
                case Fail():
                    self._fail(endpoint, action, now_ns)
                case Cancel():
                    self._transport.cancel(endpoint.service, action.replica, action.request_id)
                case Eject() | Readmit():
                    self._health(endpoint, action, now_ns)

    def _deliver(self, endpoint: Endpoint, action: Deliver, now_ns: int) -> None:
        caller = self._calls.pop(action.request_id).caller
        self._answer(endpoint, partial(caller.deliver, action), now_ns)
        self._note(
            "delivered",
            now_ns,
            action.request_id,
            service=endpoint.service,
            replica=str(action.replica),
            ms=ns_to_ms(action.took_ns),
            local=action.local,
            asked=action.asked,
        )

    def _health(self, endpoint: Endpoint, action: Eject | Readmit, now_ns: int) -> None:
        service, replica = endpoint.service, str(action.replica)
        if isinstance(action, Eject):
            log.warning("replica_ejected", service=service, replica=replica, why=action.why)
            ms = ns_to_ms(action.for_ns)
            self._trace.event("ejected", now_ns, service=service, replica=replica, why=action.why, for_ms=ms)
        else:
            log.info("replica_readmitted", service=service, replica=replica)
            self._trace.event("readmitted", now_ns, service=service, replica=replica)

    def _send(self, endpoint: Endpoint, action: Send, now_ns: int) -> None:
        call = self._calls[action.request_id]
        header = Header(
            VERSION,
            action.request_id,
            action.attempt,
            action.budget_ms,
            call.type_hash,
            endpoint.router.priority,
            self._robot,
            encoding=call.encoding,
            accepts=endpoint.encoding,
        )
        self._note(
            "sent",
            now_ns,
            action.request_id,
            service=endpoint.service,
            replica=str(action.replica),
            why=action.why,
            budget_ms=action.budget_ms,
        )
        try:
            self._transport.send(
                endpoint.service,
                action.replica,
                action.request_id,
                codec.encode(header),
                call.payload,
                action.budget_ms,
            )
        except SkyfogError as error:  # not even sent; told as an event, so that this call is over before it
            why = NotExecuted(f"could not be sent: {error}")
            self._owner.post(lambda now: self._bad_reply(endpoint, action.request_id, action.replica, why, now))

    def _fail(self, endpoint: Endpoint, action: Fail, now_ns: int) -> None:
        kind = type(action.error).__name__
        log.warning("request_failed", service=endpoint.service, error=kind, why=str(action.error))
        self._note(
            "failed",
            now_ns,
            action.request_id,
            service=endpoint.service,
            error=kind,
            why=str(action.error),
            ms=ns_to_ms(action.took_ns),
        )
        self._answer(endpoint, partial(self._calls.pop(action.request_id).caller.fail, action.error), now_ns)

    def _answer(self, endpoint: Endpoint, answer: Callable[[], None], now_ns: int) -> None:
        for due in endpoint.pacer.on_answer(answer, endpoint.clients, now_ns):
            due()

    def _note(self, name: str, now_ns: int, request_id: RequestId, **fields: Any) -> None:
        self._trace.event(name, now_ns, id=request_id.hex(), **fields)


def _load(reply: ReplyHeader) -> Load:
    return Load(reply.service_us * US, reply.queue_us * US, reply.queue_depth, reply.running, reply.retry_after_ms * MS)
