"""The uplink's two ends over zenoh: puts on keys of their own, chunks as they are told, and nothing kept back.

    car      puts on up/<gateway>/<car>, hears down/<car>/*, watches live/*
    gateway  hears up/<gateway>/*, puts on down/<car>/<gateway>, holds live/<gateway>

What is sent must wait in the car's shaper, where it can still be replaced, and neither here nor in the kernel:

- Control (ping, withdraw, ack) has a priority of its own. A put waits while the socket is full, so that the car has an
  `Outbox` with a thread for control and one for data, and the gateway one for each car's answers; what does not fit
  there is refused, and what zenoh does not take in time is lost. Zenoh keeps its routing tables locked while a put
  waits: a put that may block for long (`BLOCK`) would hold up every other link of the process, new ones too.
  Nothing is batched: zenoh holds two messages of a priority at most.
- After an outage TCP waits for as long again before it sends once more, and zenoh waits for TCP where it is in the
  middle of a write: always over tls, which says good-bye. So the car joins the network anew, under another id, when
  nobody answers it any more (policy gateways), and each attempt to connect is a short one. What was left ends when it
  can, in a thread of its own.

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
from skyfog_core.errors import ConfigError, Overloaded, WireError
from skyfog_core.owner import Owner
from skyfog_core.units import MS
from skyfog_core.wire import uplink
from skyfog_core.wire.keys import UplinkKeys, last_chunk
from skyfog_core.wire.uplink import Ack, Answer, Chunk, Downward, Ping, Upward
from skyfog_router.acl import Member
from skyfog_router.policy.gateways import Do, Gateways, Probe, Renew, Turn
from skyfog_router.transport.settings import link_settings
from skyfog_router.transport.zenoh import close_session, open_session, quietly

log = structlog.get_logger()

OUTBOX_MESSAGES = 256  # waiting for zenoh
OUTBOX_BYTES = 1 << 20  # but for one, which may be larger
MAX_PAYLOAD_BYTES = 64 << 10  # of a chunk
CAR_WAIT_US = 300_000
GATEWAY_WAIT_US, ANSWER_WAIT_US = 20_000, 1_000_000
MAX_MESSAGE_BYTES = 1 << 20  # that a gateway takes from the network: zenoh ends the link of who sends more
IDLE_S = 10.0  # an outbox's thread ends that has had nothing to do for so long
CLOSE_LIMIT_S = 1.0
MAX_CARS = 1_000  # with answers under way
OWNER_LIMIT = 4_096
PROBE_SEQ = 1 << 62  # of our own pings, whose acknowledgements are not the shaper's


class CarEvents(Protocol):
    """As skyfog_uplink.transport.base has it."""

    def received(self, message: Downward, payload: bytes) -> None: ...
    def connected(self, gateway: str) -> None: ...
    def disconnected(self, why: str) -> None: ...


class GatewayEvents(Protocol):
    """As skyfog_uplink.transport.base has it."""

    def received(self, car: str, message: Upward, payload: bytes) -> None: ...


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
            except Exception:  # one message is lost; without a thread all that follow would be
                log.exception("not_sent", outbox=self._name, key=item[0])
            finally:
                self._done(item)


class _End:
    """A session of either end. What comes and is no message is counted."""

    def __init__(self, session: zenoh.Session) -> None:
        self._session = session
        self._declared: list[Any] = []
        self._watching: Any = None

    def control(self, key: str, header: bytes) -> None:
        """Before all data. Waits where the socket is full, and then it is lost."""
        self._put(key, header, b"", zenoh.Priority.REAL_TIME)

    def data(self, key: str, header: bytes, payload: bytes) -> None:
        """As control, but after it."""
        self._put(key, header, payload, zenoh.Priority.DATA)

    def listen(self, key: str, heard: Callable[[str, bytes, bytes], None], strange: Counter[str]) -> None:
        """`heard(who, header, payload)` for each put on `key`; raises WireError for what is no message."""

        def on_sample(sample: zenoh.Sample) -> None:
            try:
                header = b"" if sample.attachment is None else sample.attachment.to_bytes()
                heard(last_chunk(str(sample.key_expr)), header, sample.payload.to_bytes())
            except WireError as error:
                strange[type(error).__name__] += 1
                if strange.total() == 1:  # once: whoever sends junk sends much of it
                    log.warning("strange_message", key=str(sample.key_expr), why=str(error))

        callback = zenoh.handlers.Callback(on_sample, indirect=False)
        self._declared.append(self._session.declare_subscriber(key, callback))

    def watch(self, key: str, on_token: Callable[[str, bool], None]) -> None:
        """`on_token(who, live)` for each token that comes or goes, those there included; an earlier watch ends."""

        def on_sample(sample: zenoh.Sample) -> None:
            try:
                who = last_chunk(str(sample.key_expr))
            except WireError as error:
                log.warning("strange_token", key=str(sample.key_expr), why=str(error))
                return
            on_token(who, sample.kind == zenoh.SampleKind.PUT)

        callback = zenoh.handlers.Callback(on_sample, indirect=False)
        if self._watching is not None:
            quietly(self._watching.undeclare)
        self._watching = self._session.liveliness().declare_subscriber(key, callback, history=True)

    def announce(self, key: str) -> Any:
        """A token, held until it is undeclared."""
        return self._session.liveliness().declare_token(key)

    def leave(self) -> None:
        """Leave the network. Returns within seconds."""
        for declared in [*self._declared, *([self._watching] if self._watching else [])]:
            quietly(declared.undeclare)
        close_session(self._session)

    def _put(self, key: str, header: bytes, payload: bytes, priority: zenoh.Priority) -> None:
        drop = zenoh.CongestionControl.DROP
        quietly(
            lambda: self._session.put(
                key, payload, attachment=header, congestion_control=drop, priority=priority, express=True
            )
        )


class ZenohCarLink:
    """The car's end (skyfog_uplink.transport.base.CarTransport)."""

    def __init__(self, join: Callable[[], zenoh.Session], fleet: str, car: str, clock: Clock, silent_ms: int) -> None:
        """`join` opens a session, now and for each link that is made anew.

        Raises ConfigError as it does, and before it for names that make no key.
        """
        self.strange: Counter[str] = Counter()  # what came and was no message, by the kind of error
        self._join, self._keys, self._car = join, UplinkKeys(fleet), car
        self._own = self._keys.all_down(car)
        self._gateways = Gateways(silent_ms * MS)
        self._owner = Owner("car-link", clock, self._on_timer, OWNER_LIMIT)
        self._up = ""  # key of the current gateway; empty: there is none
        self._closed = False
        self._leaving: list[threading.Thread] = []
        self._end, self._control, self._data = self._new()

    def start(self, events: CarEvents) -> None:
        self._events = events
        self._owner.start()
        self._owner.post(lambda _now_ns: self._enter())

    def send(self, message: Upward, payload: bytes = b"") -> bool:
        key = self._up
        if not key:
            return False
        header = uplink.encode(message)
        taken = (self._data if isinstance(message, Chunk) else self._control).offer(key, header, payload)
        if isinstance(message, Chunk | Ping):
            self._post(self._gateways.on_sent)
        return taken

    def close(self) -> None:
        """Drop what waits, and leave the network. Returns within seconds; says nothing more."""
        self._closed, self._up = True, ""
        self._owner.close(lambda _now_ns: self._leave())
        for thread in self._leaving:
            thread.join(CLOSE_LIMIT_S)

    # from zenoh's threads

    def _heard(self, gateway: str, header: bytes, payload: bytes) -> None:
        message = uplink.decode_downward(header)
        self._post(lambda now_ns: self._perform(self._gateways.on_heard(gateway, now_ns)))
        if not (isinstance(message, Ack) and message.seq == PROBE_SEQ):
            self._events.received(message, payload)

    # in the owner's thread

    def _post(self, call: Callable[[int], None]) -> None:
        with contextlib.suppress(Overloaded):  # of many signs of life some may go unseen
            self._owner.submit(call)

    def _on_timer(self, now_ns: int) -> int | None:
        self._perform(self._gateways.on_timer(now_ns))
        return self._gateways.next_timer_ns()

    def _perform(self, actions: list[Do]) -> None:
        for action in actions:
            match action:
                case Probe():
                    key = self._keys.up(action.gateway, self._car)
                    self._control.offer(key, uplink.encode(Ping(seq=PROBE_SEQ)), b"")
                case Turn():
                    self._turn(action)
                case Renew():
                    self._renew()

    def _renew(self) -> None:
        try:
            fresh = self._new()
        except ConfigError as error:  # a certificate has expired, or a car that listens has its port still
            log.warning("not_joined_anew", why=str(error))
            self._watch()  # what is there is told once more
            return
        self._leave()
        self._end, self._control, self._data = fresh
        self._enter()

    def _turn(self, turn: Turn) -> None:
        if self._closed:
            return
        log.info("gateway", gateway=turn.gateway, why=turn.why)
        was, self._up = self._up, self._keys.up(turn.gateway, self._car) if turn.gateway else ""
        if was:
            self._data.clear()
            self._events.disconnected(turn.why)
        if turn.gateway:
            self._events.connected(turn.gateway)

    def _new(self) -> tuple[_End, Outbox, Outbox]:
        """A session, and what waits for it of control and of data."""
        end = _End(self._join())

        def control(key: str, header: bytes, _payload: bytes) -> None:
            end.control(key, header)

        def data(key: str, header: bytes, payload: bytes) -> None:
            if key == self._up:  # else it was for one that we have turned away from
                end.data(key, header, payload)

        return end, Outbox("car-link-control", control), Outbox("car-link-data", data)

    def _enter(self) -> None:
        self._end.listen(self._own, self._heard, self.strange)
        self._watch()

    def _watch(self) -> None:
        end = self._end

        def on_token(gateway: str, live: bool) -> None:
            def tell(_now_ns: int) -> None:
                if end is self._end:
                    self._perform(self._gateways.on_token(gateway, live))

            self._owner.post(tell)

        end.watch(self._keys.all_live, on_token)

    def _leave(self) -> None:
        """Without waiting: a link that is cut may hold its session until TCP gives it up."""
        end, outboxes = self._end, (self._control, self._data)

        def leave() -> None:
            for outbox in outboxes:
                outbox.clear()
                outbox.close()
            end.leave()

        self._leaving = [thread for thread in self._leaving if thread.is_alive()]
        self._leaving.append(threading.Thread(target=leave, name="car-link-leaves", daemon=True))
        self._leaving[-1].start()


class ZenohGatewayLink:
    """The gateway's end (skyfog_uplink.transport.base.GatewayTransport), and its token."""

    def __init__(self, join: Callable[[], zenoh.Session], fleet: str, gateway: str) -> None:
        """`join` opens its session. Raises ConfigError as it does, and before it for names that make no key."""
        self.strange: Counter[str] = Counter()  # what came and was no message, by the kind of error
        self._keys, self._gateway = UplinkKeys(fleet), gateway
        self._own, self._live = self._keys.all_up(gateway), self._keys.live(gateway)
        self._end = _End(join())
        self._outboxes: dict[str, Outbox] = {}
        self._token: Any = None

    def start(self, events: GatewayEvents) -> None:
        """Hear the cars, unannounced."""

        def heard(car: str, header: bytes, payload: bytes) -> None:
            message = uplink.decode_upward(header)
            if len(payload) > MAX_PAYLOAD_BYTES:
                raise WireError(f"a chunk of {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES}")
            events.received(car, message, payload)

        self._end.listen(self._own, heard, self.strange)

    def announce(self, live: bool) -> None:
        """Hold the token by which cars find this gateway, or none. Idempotent; one thread."""
        if live and self._token is None:
            self._token = self._end.announce(self._live)
        elif not live and self._token is not None:
            token, self._token = self._token, None
            quietly(token.undeclare)

    def send(self, car: str, message: Downward, payload: bytes = b"") -> None:
        """One thread calls."""
        key, header = self._keys.down(car, self._gateway), uplink.encode(message)
        if not isinstance(message, Answer):
            self._end.control(key, header)
        elif not self._outbox(car).offer(key, header, payload):
            log.warning("answer_dropped", car=car, frame=message.frame)

    def close(self) -> None:
        """Send what answers wait, and leave the network. Returns within seconds."""
        self.announce(live=False)
        for outbox in self._outboxes.values():
            outbox.close()
        self._end.leave()

    def _outbox(self, car: str) -> Outbox:
        outbox = self._outboxes.get(car)
        if outbox is None:
            if len(self._outboxes) >= MAX_CARS:
                self._outboxes = {name: box for name, box in self._outboxes.items() if not box.idle}
            outbox = self._outboxes[car] = Outbox(f"answers-{car}", self._end.data)
        return outbox


def open_car_link(config: LinkConfig, fleet: str, car: str, clock: Clock) -> ZenohCarLink:
    """Join the network as a car. Raises ConfigError."""
    member, settings = Member("car", fleet, ()), link_settings(config, CAR_WAIT_US, CAR_WAIT_US)
    return ZenohCarLink(lambda: open_session(config, member, settings), fleet, car, clock, config.silent_ms)


def open_gateway_link(config: LinkConfig, fleet: str, gateway: str) -> ZenohGatewayLink:
    """Join the network as a gateway. Raises ConfigError."""
    settings = link_settings(config, GATEWAY_WAIT_US, ANSWER_WAIT_US)
    settings["transport/link/rx/max_message_size"] = MAX_MESSAGE_BYTES
    member = Member("gateway", fleet, ())
    return ZenohGatewayLink(lambda: open_session(config, member, settings), fleet, gateway)
