"""Queries, replies and liveliness over zenoh. This module and zenoh_link import it, and no other.

A request to a replica is a query on its own key: the header is the attachment, the ROS payload travels untouched.
A frozen replica must delay nobody, so that each has a link of its own (`_Link`). A query to a killed process ends by
itself within milliseconds. Callbacks run on zenoh's threads (`indirect=False`) and only post to an inbox: never call
zenoh from one, and cancel from the link's thread only, since `cancel` waits for the query's callback.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
import zenoh

from skyfog_core.config.router import ZenohConfig
from skyfog_core.errors import ConfigError, NotExecuted, Overloaded, WireError, plain_reason
from skyfog_core.ids import RequestId
from skyfog_core.wire.envelope import Encoding
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys, parse_live, parse_load
from skyfog_core.wire.load import decode_replica, decode_robot
from skyfog_core.wire.membership import Announcement, Membership, from_chunk, to_chunk
from skyfog_router.acl import Member
from skyfog_router.transport.base import FleetEvents, ReplicaEvents, RouterEvents
from skyfog_router.transport.settings import zenoh_settings

log = structlog.get_logger()

SEND_QUEUE = 256  # requests waiting for one replica's link
DIRECT_BYTES = 64 * 1024  # unread bytes that a socket buffer takes for certain
CLOSE_LIMIT_S = 2.0
# On one machine a message of 3 KB or more (zenoh's default) is left in shared memory of its sender, and is gone with
# the sender's session where the receiver has not come to it: an answer lost that was given. Nobody tells when he has.
SHARED_BYTES = 3_072
SETTLE_S = 1.0


def open_session(
    config: ZenohConfig, member: Member | None = None, more: Mapping[str, Any] | None = None
) -> zenoh.Session:
    """Join the network as `member`, with `more` settings of zenoh's.

    Raises ConfigError that names the endpoint or the certificate's file at fault.
    """
    settings = {**zenoh_settings(config, member, datetime.now(UTC)), **(more or {})}
    zenoh.init_log_from_env_or("error")
    made = zenoh.Config()
    for key, value in settings.items():
        try:
            made.insert_json5(key, json.dumps(value))
        except zenoh.ZError as error:
            raise ConfigError(f"zenoh: {key} {value!r} is refused: {plain_reason(error)}") from None
    try:
        return zenoh.open(made)
    except zenoh.ZError as error:
        where = f"listen on {config.listen} or connect to {config.connect}"
        raise ConfigError(f"zenoh: cannot {where}: {plain_reason(error)}") from None


class _Link:
    """What this process has sent to one replica of one service, and the thread for what might block.

    `get` blocks once the socket to a frozen process is full. What is surely taken by the socket's buffer is sent by
    the caller's own thread, which saves a change of threads; the rest by the link's thread, whose queue is bounded.
    A reply to a request shows that the replica has read everything up to it.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(SEND_QUEUE)
        self._busy = 0  # queued or running calls
        self._closed = False
        self._sent_bytes = 0
        self._read_bytes = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def send(self, call: Callable[[int], None], size: int) -> None:
        """Run `call(position)`, here or soon. Raises Overloaded when the link does not keep up."""
        with self._lock:
            self._sent_bytes += size
            position = self._sent_bytes
            here = not self._busy and position - self._read_bytes <= DIRECT_BYTES
        if here:
            call(position)
        else:
            self.later(lambda: call(position))

    def later(self, call: Callable[[], None]) -> None:
        """Run `call` on the link's thread. Raises Overloaded when the link does not keep up."""
        with self._lock:
            self._busy += 1
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._finished()
            raise Overloaded(f"{SEND_QUEUE} requests wait for its link already") from None

    def read(self, position: int) -> None:
        """The replica has read what was sent up to `position`."""
        with self._lock:
            self._read_bytes = max(self._read_bytes, position)

    def close(self) -> None:
        """End the thread once what is queued is sent; stuck behind a frozen peer, once that is gone."""
        self._closed = True
        with contextlib.suppress(queue.Full):  # a full queue is worked off, and the flag seen, first
            self._calls.put_nowait(None)

    def join(self, limit_s: float) -> None:
        self._thread.join(limit_s)

    def _finished(self) -> None:
        with self._lock:
            self._busy -= 1

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            finally:
                self._finished()
            if self._closed and self._calls.empty():
                return


class ZenohRouterTransport:
    """The robot's side (transport.base.RouterTransport)."""

    def __init__(self, session: zenoh.Session) -> None:
        self._session = session
        self._keys: dict[str, ServiceKeys] = {}
        self._events: dict[str, RouterEvents] = {}
        self._subscribers: list[Any] = []
        self._links: dict[tuple[str, ReplicaKey], _Link] = {}
        self._tokens: dict[tuple[RequestId, ReplicaKey], zenoh.CancellationToken] = {}
        self._lock = threading.Lock()  # guards _tokens: ended() comes from zenoh's threads

    def watch(self, service: str, keys: ServiceKeys, events: RouterEvents) -> None:
        def on_token(replica: ReplicaKey, announcement: Announcement, live: bool) -> None:
            if live:
                events.joined(service, replica, announcement)
                return
            events.left(service, replica, announcement)
            link = self._links.pop((service, replica), None)
            if link is not None:
                link.close()

        self._keys[service], self._events[service] = keys, events
        self._subscribers.append(_follow_tokens(self._session, keys, on_token))

    def send(
        self, service: str, replica: ReplicaKey, request_id: RequestId, header: bytes, payload: bytes, budget_ms: int
    ) -> None:
        token = zenoh.CancellationToken()
        with self._lock:
            self._tokens[request_id, replica] = token
        link = self._link(service, replica)
        try:
            link.send(
                lambda position: self._get(
                    link, service, replica, request_id, token, header, payload, budget_ms, position
                ),
                len(header) + len(payload),
            )
        except Overloaded:
            self._forget(request_id, replica)
            raise

    def cancel(self, service: str, replica: ReplicaKey, request_id: RequestId) -> None:
        token = self._forget(request_id, replica)
        link = self._links.get((service, replica))
        if token is None or link is None:
            return  # it has ended, or the replica has left and it ends by its time-out
        try:
            link.later(lambda: self._withdraw(service, replica, request_id, token))
        except Overloaded:
            log.debug("cancel_dropped", replica=str(replica))  # its query ends by its own time-out

    def tell_load(self, service: str, robot: str, load: bytes) -> None:
        _tell(self._session, self._keys[service].robot_load(robot), load)

    def close(self) -> None:
        for subscriber in self._subscribers:
            quietly(subscriber.undeclare)
        links = list(self._links.values())
        for link in links:
            link.close()
        for link in links:
            link.join(CLOSE_LIMIT_S / len(links))
        close_session(self._session)

    def _link(self, service: str, replica: ReplicaKey) -> _Link:
        link = self._links.get((service, replica))
        if link is None:
            link = self._links[service, replica] = _Link(f"send-{replica}")
        return link

    def _forget(self, request_id: RequestId, replica: ReplicaKey) -> zenoh.CancellationToken | None:
        with self._lock:
            return self._tokens.pop((request_id, replica), None)

    def _get(
        self,
        link: _Link,
        service: str,
        replica: ReplicaKey,
        request_id: RequestId,
        token: zenoh.CancellationToken,
        header: bytes,
        payload: bytes,
        budget_ms: int,
        position: int,
    ) -> None:
        events = self._events[service]
        heard = False

        def on_reply(reply: zenoh.Reply) -> None:
            nonlocal heard
            link.read(position)
            if reply.ok is not None and not heard:
                heard = True  # the same reply comes once by each router on the way
                attachment = reply.ok.attachment
                beside = b"" if attachment is None else attachment.to_bytes()
                events.reply(service, request_id, replica, beside, reply.ok.payload.to_bytes())

        def on_end() -> None:
            self._forget(request_id, replica)
            events.ended(service, request_id, replica)

        try:
            self._session.get(
                self._keys[service].query(replica),
                handler=zenoh.handlers.Callback(on_reply, on_end, indirect=False),
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
        quietly(token.cancel)
        quietly(
            lambda: self._session.put(
                self._keys[service].cancel(replica), request_id, congestion_control=zenoh.CongestionControl.DROP
            )
        )


class ZenohQuery:
    """A zenoh query as transport.base.Query. Where two routers lead here, the same request comes as two of them."""

    def __init__(self, query: zenoh.Query, answered: Callable[[int], None]) -> None:
        """`answered` hears how many bytes each answer has."""
        self._query: zenoh.Query | None = query
        self._answered = answered
        self._lock = threading.Lock()
        self.header = b"" if query.attachment is None else query.attachment.to_bytes()
        self.payload = b"" if query.payload is None else query.payload.to_bytes()
        self.accepts = Encoding.PLAIN

    def answer(self, header: bytes, payload: bytes) -> None:
        with self._lock:
            query, self._query = self._query, None
        if query is None:
            return
        try:
            with query:
                query.reply(query.key_expr, payload, attachment=header)
        except zenoh.ZError as error:
            log.warning("reply_failed", why=str(error))
        self._answered(len(payload))


class ZenohReplicaTransport:
    """The replica's side (transport.base.ReplicaTransport)."""

    def __init__(self, session: zenoh.Session) -> None:
        self._session = session
        self._declared: list[Any] = []
        self._token: zenoh.LivelinessToken | None = None
        self._announced: Announcement | None = None
        self._keys: ServiceKeys | None = None
        self._who: ReplicaKey | None = None
        self._closed = False
        self._settled_s = 0.0  # steady clock: by then the last large answer has been read
        self._lock = threading.Lock()

    def serve(self, keys: ServiceKeys, who: ReplicaKey, events: ReplicaEvents) -> None:
        self._keys, self._who = keys, who

        def on_query(query: zenoh.Query) -> None:
            events.query(ZenohQuery(query, self._on_answered))

        self._declared = [
            self._session.declare_queryable(
                keys.query(who), zenoh.handlers.Callback(on_query, indirect=False), complete=True
            ),
            self._session.declare_subscriber(
                keys.cancel(who), lambda sample: events.cancelled(sample.payload.to_bytes())
            ),
        ]

    def announce(self, announcement: Announcement | None) -> None:
        with self._lock:
            if announcement == self._announced:
                return
            old, self._token = self._token, None
            if announcement is not None and not self._closed and self._keys is not None and self._who is not None:
                key = self._keys.live(self._who, to_chunk(announcement))
                self._token = self._session.liveliness().declare_token(key)
            self._announced = announcement
            if old is not None:
                quietly(old.undeclare)

    def tell_load(self, load: bytes) -> None:
        assert self._keys is not None, "it serves"
        assert self._who is not None
        _tell(self._session, self._keys.replica_load(self._who), load)

    def links(self) -> int:
        return _links(self._session)

    def close(self) -> None:
        self.announce(None)
        self._closed = True
        for declared in self._declared:
            quietly(declared.undeclare)
        time.sleep(max(0.0, self._settled_s - time.monotonic()))
        close_session(self._session)

    def _on_answered(self, size: int) -> None:
        if size >= SHARED_BYTES:
            self._settled_s = time.monotonic() + SETTLE_S


class ZenohFleetWatch:
    """Follows one service's tokens and load, and says nothing itself; begins at once."""

    def __init__(self, session: zenoh.Session, keys: ServiceKeys, events: FleetEvents) -> None:
        """Takes the session over."""
        self._session = session
        self._events = events
        self._members = Membership()
        self._lock = threading.Lock()  # guards _members, and the order of what is told of them
        self._subscribers = [
            _follow_tokens(session, keys, self._on_token),
            *(session.declare_subscriber(key, self._on_load) for key in keys.all_loads),
        ]

    def links(self) -> int:
        """How many processes of the network this one is connected with now: with none, nobody can be seen."""
        return _links(self._session)

    def close(self) -> None:
        """Leave the network. Returns within seconds."""
        for subscriber in self._subscribers:
            quietly(subscriber.undeclare)
        close_session(self._session)

    def _on_token(self, who: ReplicaKey, announcement: Announcement, live: bool) -> None:
        with self._lock:
            was = who in self._members
            (self._members.join if live else self._members.leave)(who, announcement)
            if (who in self._members) != was:
                self._events.on_token(who, live)

    def _on_load(self, sample: zenoh.Sample) -> None:
        key, data = str(sample.key_expr), sample.payload.to_bytes()
        try:
            who = parse_load(key)
            if isinstance(who, ReplicaKey):
                self._events.on_replica_load(who, decode_replica(data))
            else:
                self._events.on_robot_load(who, decode_robot(data))
        except WireError as error:
            log.warning("strange_load", key=key, why=str(error))


def _follow_tokens(
    session: zenoh.Session, keys: ServiceKeys, tell: Callable[[ReplicaKey, Announcement, bool], None]
) -> Any:
    """A subscriber that tells of each token that appears or goes, those already there included."""

    def on_token(sample: zenoh.Sample) -> None:
        key = str(sample.key_expr)
        try:
            replica, chunk = parse_live(key)
            announcement = from_chunk(chunk)
        except WireError as error:
            log.warning("strange_token", key=key, why=str(error))
            return
        tell(replica, announcement, sample.kind == zenoh.SampleKind.PUT)

    return session.liveliness().declare_subscriber(keys.all_live, on_token, history=True)


def _tell(session: zenoh.Session, key: str, load: bytes) -> None:
    """A put that may be lost, behind everything else."""
    drop, last = zenoh.CongestionControl.DROP, zenoh.Priority.BACKGROUND
    quietly(lambda: session.put(key, load, congestion_control=drop, priority=last))


def _links(session: zenoh.Session) -> int:
    try:
        return len(session.info.peers_zid()) + len(session.info.routers_zid())
    except zenoh.ZError:  # closed
        return 0


def close_session(session: zenoh.Session) -> None:
    """Close within CLOSE_LIMIT_S: a frozen peer must not hold up the end of this process."""
    closing = threading.Thread(target=lambda: quietly(session.close), daemon=True)
    closing.start()
    closing.join(CLOSE_LIMIT_S)


def quietly(call: Callable[[], Any]) -> None:
    """What a network that is gone need not be told of."""
    try:
        call()
    except (zenoh.ZError, NotExecuted) as error:
        log.debug("zenoh", why=str(error))
