"""Queries, replies and liveliness over zenoh. The only module that imports it.

A request to a replica is a query on its own key: the header is the attachment, the ROS payload travels untouched.
Each replica has a sending thread with a bounded queue, since a `get` towards a frozen process blocks once its link is
full, and a frozen replica must delay nobody. A query to a killed process ends by itself within milliseconds.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from typing import Any

import structlog
import zenoh

from skyfog_core.config.router import ZenohConfig
from skyfog_core.errors import ConfigError, NotExecuted, Overloaded, WireError
from skyfog_core.ids import RequestId
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys, parse_replica
from skyfog_router.transport.base import ReplicaEvents, RouterEvents

log = structlog.get_logger()

SEND_QUEUE = 256  # requests waiting for one replica's link
CLOSE_LIMIT_S = 2.0


def open_session(config: ZenohConfig) -> zenoh.Session:
    """Join the network. Raises ConfigError that names the endpoint at fault."""
    settings: dict[str, Any] = {
        "mode": config.mode,
        "connect/endpoints": config.connect,
        "listen/endpoints": config.listen,
        "scouting/multicast/enabled": False,
        "transport/link/tx/lease": config.lease_ms,
        "connect/exit_on_failure": False,
        "connect/timeout_ms": 0,  # keep trying in the background
    }
    zenoh.init_log_from_env_or("error")
    made = zenoh.Config()
    for key, value in settings.items():
        try:
            made.insert_json5(key, json.dumps(value))
        except zenoh.ZError as error:
            raise ConfigError(f"zenoh.{key}: {value!r} is refused: {error}") from None
    try:
        return zenoh.open(made)
    except zenoh.ZError as error:
        raise ConfigError(f"zenoh: cannot listen on {config.listen} or connect to {config.connect}: {error}") from None


def locators(session: zenoh.Session) -> list[str]:
    """The endpoints this session listens on, such as tcp/127.0.0.1:43121."""
    return [str(locator) for locator in session.info.locators()]


class _Sender:
    """The sending thread of one replica of one service."""

    def __init__(self, name: str) -> None:
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(SEND_QUEUE)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], None]) -> None:
        """Raises Overloaded when the link does not keep up."""
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            raise Overloaded(f"{SEND_QUEUE} requests wait for its link already") from None

    def close(self) -> None:
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            return  # stuck behind a frozen peer: a daemon thread, ended with the process

    def join(self, limit_s: float) -> None:
        self._thread.join(limit_s)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


class ZenohRouterTransport:
    """The robot's side (transport.base.RouterTransport)."""

    def __init__(self, session: zenoh.Session) -> None:
        self._session = session
        self._keys: dict[str, ServiceKeys] = {}
        self._events: dict[str, RouterEvents] = {}
        self._subscribers: list[Any] = []
        self._senders: dict[tuple[str, ReplicaKey], _Sender] = {}
        self._tokens: dict[tuple[RequestId, ReplicaKey], zenoh.CancellationToken] = {}
        self._lock = threading.Lock()  # guards _tokens: ended() comes from zenoh's threads

    def watch(self, service: str, keys: ServiceKeys, events: RouterEvents) -> None:
        def on_token(sample: zenoh.Sample) -> None:
            try:
                replica = parse_replica(str(sample.key_expr))
            except WireError as error:
                log.warning("strange_token", key=str(sample.key_expr), why=str(error))
                return
            if sample.kind == zenoh.SampleKind.PUT:
                events.joined(service, replica)
            else:
                events.left(service, replica)

        self._keys[service], self._events[service] = keys, events
        subscriber = self._session.liveliness().declare_subscriber(keys.all_live, on_token, history=True)
        self._subscribers.append(subscriber)

    def send(
        self, service: str, replica: ReplicaKey, request_id: RequestId, header: bytes, payload: bytes, budget_ms: int
    ) -> None:
        token = zenoh.CancellationToken()
        with self._lock:
            self._tokens[request_id, replica] = token
        try:
            self._sender(service, replica).put(
                lambda: self._get(service, replica, request_id, token, header, payload, budget_ms)
            )
        except Overloaded:
            self._forget(request_id, replica)
            raise

    def cancel(self, service: str, replica: ReplicaKey, request_id: RequestId) -> None:
        token = self._forget(request_id, replica)
        if token is None:
            return  # it has ended
        try:
            self._sender(service, replica).put(lambda: self._withdraw(service, replica, request_id, token))
        except Overloaded:
            log.debug("cancel_dropped", replica=str(replica))  # its query ends by its own time-out

    def close(self) -> None:
        for subscriber in self._subscribers:
            _quietly(subscriber.undeclare)
        for sender in self._senders.values():
            sender.close()
        for sender in self._senders.values():
            sender.join(CLOSE_LIMIT_S / max(1, len(self._senders)))
        _close_session(self._session)

    def _sender(self, service: str, replica: ReplicaKey) -> _Sender:
        sender = self._senders.get((service, replica))
        if sender is None:
            sender = self._senders[service, replica] = _Sender(f"send-{replica}")
        return sender

    def _forget(self, request_id: RequestId, replica: ReplicaKey) -> zenoh.CancellationToken | None:
        with self._lock:
            return self._tokens.pop((request_id, replica), None)

    def _get(
        self,
        service: str,
        replica: ReplicaKey,
        request_id: RequestId,
        token: zenoh.CancellationToken,
        header: bytes,
        payload: bytes,
        budget_ms: int,
    ) -> None:
        events = self._events[service]

        def on_reply(reply: zenoh.Reply) -> None:
            if reply.ok is not None:
                attachment = reply.ok.attachment
                beside = b"" if attachment is None else attachment.to_bytes()
                events.reply(service, request_id, replica, beside, reply.ok.payload.to_bytes())

        def on_end() -> None:
            self._forget(request_id, replica)
            events.ended(service, request_id, replica)

        try:
            self._session.get(
                self._keys[service].query(replica),
                handler=zenoh.handlers.Callback(on_reply, on_end),
                target=zenoh.QueryTarget.ALL,
                consolidation=zenoh.ConsolidationMode.NONE,
                timeout=budget_ms / 1000,
                congestion_control=zenoh.CongestionControl.BLOCK,
                payload=payload,
                attachment=header,
                cancellation_token=token,
            )
        except zenoh.ZError as error:
            log.warning("get_failed", replica=str(replica), why=str(error))
            on_end()

    def _withdraw(
        self, service: str, replica: ReplicaKey, request_id: RequestId, token: zenoh.CancellationToken
    ) -> None:
        _quietly(token.cancel)
        _quietly(
            lambda: self._session.put(
                self._keys[service].cancel(replica), request_id, congestion_control=zenoh.CongestionControl.DROP
            )
        )


class ZenohQuery:
    """A zenoh query as transport.base.Query."""

    def __init__(self, query: zenoh.Query) -> None:
        self._query = query
        self.header = b"" if query.attachment is None else query.attachment.to_bytes()
        self.payload = b"" if query.payload is None else query.payload.to_bytes()

    def answer(self, header: bytes, payload: bytes) -> None:
        try:
            with self._query as query:
                query.reply(query.key_expr, payload, attachment=header)
        except zenoh.ZError as error:
            log.warning("reply_failed", why=str(error))


class ZenohReplicaTransport:
    """The replica's side (transport.base.ReplicaTransport)."""

    def __init__(self, session: zenoh.Session) -> None:
        self._session = session
        self._declared: list[Any] = []
        self._token: zenoh.LivelinessToken | None = None
        self._live_key = ""
        self._closed = False
        self._lock = threading.Lock()

    def serve(self, keys: ServiceKeys, who: ReplicaKey, events: ReplicaEvents) -> None:
        self._live_key = keys.live(who)
        self._declared = [
            self._session.declare_queryable(
                keys.query(who), lambda query: events.query(ZenohQuery(query)), complete=True
            ),
            self._session.declare_subscriber(
                keys.cancel(who), lambda sample: events.cancelled(sample.payload.to_bytes())
            ),
        ]

    def announce(self, ready: bool) -> None:
        with self._lock:
            if ready and self._token is None and not self._closed:
                self._token = self._session.liveliness().declare_token(self._live_key)
            elif not ready and self._token is not None:
                _quietly(self._token.undeclare)
                self._token = None

    def close(self) -> None:
        self.announce(ready=False)
        self._closed = True
        for declared in self._declared:
            _quietly(declared.undeclare)
        _close_session(self._session)


def _close_session(session: zenoh.Session) -> None:
    """Close within CLOSE_LIMIT_S: a frozen peer must not hold up the end of this process."""
    closing = threading.Thread(target=lambda: _quietly(session.close), daemon=True)
    closing.start()
    closing.join(CLOSE_LIMIT_S)


def _quietly(call: Callable[[], Any]) -> None:
    try:
        call()
    except (zenoh.ZError, NotExecuted) as error:
        log.debug("zenoh", why=str(error))
