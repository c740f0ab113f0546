"""The uplink's two ends over zenoh: puts on keys of their own, chunks as they are told, and nothing kept back.

    car      puts on up/<gateway>/<car>, hears down/<car>/*, watches live/*
    gateway  hears up/<gateway>/*, puts on down/<car>/<gateway>, holds live/<gateway>

What is sent must wait in the car's shaper, where it can still be replaced, and neither here nor in the kernel:

- Control (ping, withdraw, ack) has a priority of its own and is dropped where zenoh does not take it within a
  millisecond. Data waits for zenoh in an `Outbox` with a thread of its own, since a put to a frozen peer blocks; what
  does not fit there is refused. Nothing is batched: zenoh holds two data messages at most.
- Zenoh makes a link anew that was silent for its lease. TCP itself would wait for as long again as an outage has
  lasted, before it sends once more.

`skyfog_uplink.transport.base` says what the ends promise. doc/the_link.md of skyfog_uplink says why these settings.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import structlog
import zenoh

from skyfog_core.clock import Clock
from skyfog_core.config.uplink import LinkConfig
from skyfog_core.errors import Overloaded, WireError
from skyfog_core.owner import Owner
from skyfog_core.units import MS
from skyfog_core.wire import uplink
from skyfog_core.wire.keys import UplinkKeys, last_chunk
from skyfog_core.wire.uplink import Ack, Answer, Chunk, Downward, Ping, Upward
from skyfog_router.acl import Member
from skyfog_router.policy.gateways import Gateways, Probe, Turn
from skyfog_router.transport.zenoh import close_session, open_session, quietly

log = structlog.get_logger()

OUTBOX_MESSAGES = 256  # waiting for zenoh
OUTBOX_BYTES = 1 << 20  # but for one, which may be larger
MAX_PAYLOAD_BYTES = 64 << 10  # of a chunk
IDLE_S = 10.0  # an outbox's thread ends that has had nothing to do for so long
CLOSE_LIMIT_S = 1.0
MAX_CARS = 1_000  # with answers under way
OWNER_LIMIT = 4_096
PROBE_SEQ = 1 << 62  # of our own pings, whose acknowledgements are not the shaper's
# A connection is tried anew before TCP and QUIC, which wait longer each time, would.
OPEN_MS = 2_000
RETRY = {"period_init_ms": 50, "period_max_ms": 200, "period_increase_factor": 2}


class CarEvents(Protocol):
    """As skyfog_uplink.transport.base has it."""

    def received(self, message: Downward, payload: bytes) -> None: ...
    def connected(self, gateway: str) -> None: ...
    def disconnected(self, why: str) -> None: ...


class GatewayEvents(Protocol):
    """As skyfog_uplink.transport.base has it."""

    def received(self, car: str, message: Upward, payload: bytes) -> None: ...


def link_settings(config: LinkConfig) -> dict[str, Any]:
    """Zenoh's settings for one end of the uplink, beside those of any process."""
    settings: dict[str, Any] = {
        "transport/link/tx/queue/batching/enabled": False,
        "transport/unicast/open_timeout": OPEN_MS,
        "transport/unicast/accept_timeout": OPEN_MS,
        "connect/retry": RETRY,
    }
    if config.send_buffer_bytes:
        settings["transport/link/tcp/so_sndbuf"] = config.send_buffer_bytes
        settings["transport/link/tls/so_sndbuf"] = config.send_buffer_bytes
    return settings


class Outbox:
    """Messages for one peer that wait for zenoh, and the thread that gives them to it, which may block."""

    def __init__(self, name: str, put: Callable[[str, bytes, bytes], None]) -> None:
        self._name, self._put = name, put
        self._waiting: queue.SimpleQueue[tuple[str, bytes, bytes] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._messages = 0
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def offer(self, key: str, header: bytes, payload: bytes) -> bool:
        """Whether it was taken."""
        with self._lock:
            full = self._messages >= OUTBOX_MESSAGES or (self._messages and self._bytes + len(payload) > OUTBOX_BYTES)
            if self._closed or full:
                return False
            self._messages += 1
            self._bytes += len(payload)
            self._waiting.put((key, header, payload))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        return True

    def clear(self) -> None:
        """Forget what waits; what zenoh is at stays with it."""
        with contextlib.suppress(queue.Empty):
            while (item := self._waiting.get_nowait()) is not None:
                self._done(item)

    def close(self) -> None:
        """Take no more, and end the thread once what waits is sent; stuck behind a frozen peer, once that is gone."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._waiting.put(None)
        if thread is not None:
            thread.join(CLOSE_LIMIT_S)

    @property
    def idle(self) -> bool:
        """Whether it has no thread."""
        return self._thread is None

    def _done(self, item: tuple[str, bytes, bytes]) -> None:
        with self._lock:
            self._messages -= 1
            self._bytes -= len(item[2])

    def _run(self) -> None:
        while True:
            try:
                item = self._waiting.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._messages:
                        continue  # one came at this very moment
                    self._thread = None
                    return
            if item is None:
                return
            try:
                self._put(*item)
            finally:
                self._done(item)


class _End:
    """What both ends do: put control at once and data through an outbox, and count what is no message."""

    def __init__(self, session: zenoh.Session) -> None:
        self._session = session
        self._declared: list[Any] = []
        self.strange: Counter[str] = Counter()  # what came and was no message, by the kind of error

    def _control(self, key: str, header: bytes) -> None:
        drop, first = zenoh.CongestionControl.DROP, zenoh.Priority.REAL_TIME
        quietly(
            lambda: self._session.put(
                key, b"", attachment=header, congestion_control=drop, priority=first, express=True
            )
        )

    def _data(self, key: str, header: bytes, payload: bytes) -> None:
        block, then = zenoh.CongestionControl.BLOCK, zenoh.Priority.DATA
        quietly(
            lambda: self._session.put(
                key, payload, attachment=header, congestion_control=block, priority=then, express=True
            )
        )

    def _listen(self, key: str, heard: Callable[[str, bytes, bytes], None]) -> None:
        """`heard(who, header, payload)` for each put on `key`; raises WireError for what is no message."""

        def on_sample(sample: zenoh.Sample) -> None:
            try:
                header = b"" if sample.attachment is None else sample.attachment.to_bytes()
                heard(last_chunk(str(sample.key_expr)), header, sample.payload.to_bytes())
            except WireError as error:
                self.strange[type(error).__name__] += 1
                if self.strange.total() == 1:  # once: whoever sends junk sends much of it
                    log.warning("strange_message", key=str(sample.key_expr), why=str(error))

        self._declared.append(
            self._session.declare_subscriber(key, zenoh.handlers.Callback(on_sample, indirect=False))
        )

    def _leave(self) -> None:
        for declared in self._declared:
            quietly(declared.undeclare)
        close_session(self._session)


class ZenohCarLink(_End):
    """The car's end (skyfog_uplink.transport.base.CarTransport)."""

    def __init__(self, session: zenoh.Session, fleet: str, car: str, clock: Clock, silent_ms: int) -> None:
        """Takes the session over. Raises ConfigError for names that make no key."""
        super().__init__(session)
        self._keys, self._car = UplinkKeys(fleet), car
        self._own = self._keys.all_down(car)
        self._gateways = Gateways(silent_ms * MS)
        self._owner = Owner("car-link", clock, self._on_timer, OWNER_LIMIT)
        self._outbox = Outbox("car-link-data", self._data_to_current)
        self._up = ""  # key of the current gateway; empty: there is none

    def start(self, events: CarEvents) -> None:
        self._events = events
        self._owner.start()
        self._listen(self._own, self._heard)
        watch = self._session.liveliness().declare_subscriber(
            self._keys.all_live, zenoh.handlers.Callback(self._on_token, indirect=False), history=True
        )
        self._declared.append(watch)

    def send(self, message: Upward, payload: bytes = b"") -> bool:
        key = self._up
        if not key:
            return False
        header = uplink.encode(message)
        if isinstance(message, Chunk):
            taken = self._outbox.offer(key, header, payload)
        else:
            self._control(key, header)
            taken = True
        if isinstance(message, Chunk | Ping):
            self._post(self._gateways.on_sent)
        return taken

    def close(self) -> None:
        self._up = ""
        self._owner.close(lambda _now_ns: None)
        self._outbox.clear()
        self._outbox.close()
        self._leave()

    # from zenoh's threads

    def _heard(self, gateway: str, header: bytes, payload: bytes) -> None:
        message = uplink.decode_downward(header)
        self._post(lambda now_ns: self._perform(self._gateways.on_heard(gateway, now_ns)))
        if not (isinstance(message, Ack) and message.seq == PROBE_SEQ):
            self._events.received(message, payload)

    def _on_token(self, sample: zenoh.Sample) -> None:
        try:
            gateway = last_chunk(str(sample.key_expr))
        except WireError as error:
            log.warning("strange_token", key=str(sample.key_expr), why=str(error))
            return
        live = sample.kind == zenoh.SampleKind.PUT
        self._owner.post(lambda _now_ns: self._perform(self._gateways.on_token(gateway, live)))

    # in the owner's thread

    def _post(self, call: Callable[[int], None]) -> None:
        with contextlib.suppress(Overloaded):  # of many signs of life some may go unseen
            self._owner.submit(call)

    def _on_timer(self, now_ns: int) -> int | None:
        self._perform(self._gateways.on_timer(now_ns))
        return self._gateways.next_timer_ns()

    def _perform(self, actions: list[Turn | Probe]) -> None:
        for action in actions:
            if isinstance(action, Probe):
                self._control(self._keys.up(action.gateway, self._car), uplink.encode(Ping(seq=PROBE_SEQ)))
            else:
                self._turn(action)

    def _turn(self, turn: Turn) -> None:
        log.info("gateway", gateway=turn.gateway, why=turn.why)
        was, self._up = self._up, self._keys.up(turn.gateway, self._car) if turn.gateway else ""
        if was:
            self._outbox.clear()
            self._events.disconnected(turn.why)
        if turn.gateway:
            self._events.connected(turn.gateway)

    # in the outbox's thread

    def _data_to_current(self, key: str, header: bytes, payload: bytes) -> None:
        if key == self._up:
            self._data(key, header, payload)


class ZenohGatewayLink(_End):
    """The gateway's end (skyfog_uplink.transport.base.GatewayTransport), and its token."""

    def __init__(self, session: zenoh.Session, fleet: str, gateway: str) -> None:
        """Takes the session over. Raises ConfigError for names that make no key."""
        super().__init__(session)
        self._keys, self._gateway = UplinkKeys(fleet), gateway
        self._own, self._live = self._keys.all_up(gateway), self._keys.live(gateway)
        self._outboxes: dict[str, Outbox] = {}
        self._token: zenoh.LivelinessToken | None = None

    def start(self, events: GatewayEvents) -> None:
        """Hear the cars, unannounced."""

        def heard(car: str, header: bytes, payload: bytes) -> None:
            message = uplink.decode_upward(header)
            if len(payload) > MAX_PAYLOAD_BYTES:
                raise WireError(f"a chunk of {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES}")
            events.received(car, message, payload)

        self._listen(self._own, heard)

    def announce(self, live: bool) -> None:
        """Hold the token by which cars find this gateway, or none. Idempotent; one thread."""
        if live and self._token is None:
            self._token = self._session.liveliness().declare_token(self._live)
        elif not live and self._token is not None:
            token, self._token = self._token, None
            quietly(token.undeclare)

    def send(self, car: str, message: Downward, payload: bytes = b"") -> None:
        """One thread calls."""
        key, header = self._keys.down(car, self._gateway), uplink.encode(message)
        if not isinstance(message, Answer):
            self._control(key, header)
        elif not self._outbox(car).offer(key, header, payload):
            log.warning("answer_dropped", car=car, frame=message.frame)

    def close(self) -> None:
        self.announce(live=False)
        for outbox in self._outboxes.values():
            outbox.close()
        self._leave()

    def _outbox(self, car: str) -> Outbox:
        outbox = self._outboxes.get(car)
        if outbox is None:
            if len(self._outboxes) >= MAX_CARS:
                self._outboxes = {name: box for name, box in self._outboxes.items() if not box.idle}
            outbox = self._outboxes[car] = Outbox(f"answers-{car}", self._data)
        return outbox


def open_car_link(config: LinkConfig, fleet: str, car: str, clock: Clock) -> ZenohCarLink:
    """Join the network as a car. Raises ConfigError."""
    session = open_session(config, Member("car", fleet, ()), link_settings(config))
    return ZenohCarLink(session, fleet, car, clock, config.silent_ms)


def open_gateway_link(config: LinkConfig, fleet: str, gateway: str) -> ZenohGatewayLink:
    """Join the network as a gateway. Raises ConfigError."""
    return ZenohGatewayLink(open_session(config, Member("gateway", fleet, ()), link_settings(config)), fleet, gateway)
