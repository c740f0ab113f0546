"""The uplink's two ends over real zenoh sessions on 127.0.0.1: certificates, routers, and what the car does alone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import zenoh
from integration.skyfog_router.conftest import Net
from integration.skyfog_router.ends import KEYS, LIMIT_S, SERVICE
from integration.skyfog_router.trust import REFUSED_MS, Authority, raw_session, replies, tokens

from skyfog_core.config.router import TlsConfig, ZenohConfig
from skyfog_core.config.uplink import LinkConfig
from skyfog_core.ports import free_tcp_port
from skyfog_core.wire import uplink
from skyfog_core.wire.keys import UplinkKeys
from skyfog_core.wire.uplink import Ack, Chunk, Ping, Upward
from skyfog_router.acl import Member
from skyfog_router.transport.zenoh import open_session
from skyfog_router.transport.zenoh_link import OUTBOX_BYTES, OUTBOX_MESSAGES, Outbox, open_gateway_link
from support.processes import wait_until
from support.uplink_end import Car

UPLINK = UplinkKeys("test")
POSED = 1 << 40  # no car here sends so much
PING = uplink.encode(Ping(seq=7))
ACK = uplink.encode(Ack(seq=POSED, received_us=0))


class Acknowledging:
    """A gateway that acknowledges and does nothing else."""

    def __init__(self, config: LinkConfig, name: str = "g0") -> None:
        self.heard: queue.SimpleQueue[tuple[str, Upward, bytes]] = queue.SimpleQueue()
        self.mute = False
        self.link = open_gateway_link(config, "test", name)
        self.link.start(self)
        self.link.announce(live=True)

    def received(self, car: str, message: Upward, payload: bytes) -> None:
        self.heard.put((car, message, payload))
        if isinstance(message, Chunk | Ping) and not self.mute:
            self.link.send(car, Ack(seq=message.seq, received_us=time.monotonic_ns() // 1_000))

    def close(self) -> None:
        self.link.close()


def endpoint(protocol: str = "tcp") -> str:
    return f"{protocol}/127.0.0.1:{free_tcp_port()}"


@pytest.fixture
def authority(tmp_path: Any) -> Authority:
    return Authority(tmp_path / "pki")


def acknowledged(car: Car) -> None:
    """Something that is sent from now on."""
    while not car.acks.empty():
        car.acks.get()
    assert car.ping()
    car.acks.get(timeout=LIMIT_S)


def closed(box: Outbox) -> None:
    """Its thread too, for which close does not wait as long as a busy machine may take."""
    box.close()
    assert box._thread is not None
    box._thread.join(LIMIT_S)


def test_an_outbox_refuses_what_does_not_fit_and_sends_the_rest_in_order() -> None:
    gone, free = threading.Event(), threading.Event()
    put: list[int] = []

    def slow(_key: str, _header: bytes, payload: bytes) -> None:
        gone.set()
        assert free.wait(LIMIT_S)
        put.append(len(payload))

    box = Outbox("box", slow)
    assert box.offer("k", b"", bytes(OUTBOX_BYTES + 1)), "one may be larger"
    assert gone.wait(LIMIT_S)
    assert not box.offer("k", b"", b"x"), "what zenoh is at counts"
    free.set()
    wait_until("room", lambda: box.offer("k", b"", bytes(7)))
    closed(box)
    assert put == [OUTBOX_BYTES + 1, 7]
    assert not box.offer("k", b"", b"x")


def test_an_outbox_goes_on_after_a_message_that_could_not_be_sent() -> None:
    put: list[bytes] = []

    def broken(_key: str, _header: bytes, payload: bytes) -> None:
        if payload == b"bad":
            raise RuntimeError("no such session")
        put.append(payload)

    box = Outbox("box", broken)
    assert box.offer("k", b"", b"bad")
    assert box.offer("k", b"", b"good")
    closed(box)
    assert put == [b"good"]


def test_what_is_cleared_from_an_outbox_is_not_sent() -> None:
    gone, free = threading.Event(), threading.Event()
    put: list[bytes] = []

    def slow(_key: str, _header: bytes, payload: bytes) -> None:
        gone.set()
        assert free.wait(LIMIT_S)
        put.append(payload)

    box = Outbox("box", slow)
    taken = [box.offer("k", b"", bytes([n % 256])) for n in range(OUTBOX_MESSAGES + 1)]
    assert taken == [True] * OUTBOX_MESSAGES + [False]
    assert gone.wait(LIMIT_S)
    box.clear()
    assert box.offer("k", b"", b"new")
    free.set()
    closed(box)
    assert put == [b"\x00", b"new"]


def test_without_a_gateway_nothing_is_taken(net: Net) -> None:
    car = net.keep(Car(LinkConfig(listen=[net.endpoint])))
    assert not car.ping()
    assert not car.chunk(b"x")
    gateway = net.keep(Acknowledging(LinkConfig(connect=[net.endpoint])))
    car.wait_for("g0")
    acknowledged(car)
    gateway.link.announce(live=False)
    car.wait_for("")
    assert not car.ping()


def test_a_chunk_comes_as_it_was_sent(net: Net) -> None:
    car = net.keep(Car(LinkConfig(listen=[net.endpoint])))
    gateway = net.keep(Acknowledging(LinkConfig(connect=[net.endpoint])))
    car.wait_for("g0")
    assert car.chunk(b"payload", frame=5, budget_ms=80)
    while not isinstance((heard := gateway.heard.get(timeout=LIMIT_S))[1], Chunk):  # pings come before it
        pass
    car_name, chunk, payload = heard
    assert isinstance(chunk, Chunk)
    assert (car_name, chunk.frame, chunk.offset, chunk.budget_ms, payload) == ("car", 5, 0, 80, b"payload")


@pytest.mark.parametrize("dials", ["car", "gateway"])
def test_a_car_joins_anew_where_nobody_answers_and_leaves_nothing_behind(net: Net, dials: str) -> None:
    """A car that listens cannot, while its port is in use by what it was: it stays, and finds the gateway again too."""
    listens, connects = LinkConfig(listen=[net.endpoint], silent_ms=100), LinkConfig(connect=[net.endpoint])
    if dials == "car":
        listens, connects = connects.model_copy(update={"silent_ms": 100}), LinkConfig(listen=[net.endpoint])
    car, gateway = net.keep(Car(listens)), net.keep(Acknowledging(connects))
    car.wait_for("g0")
    gateway.mute = True
    for _ in range(2):
        car.wait_for("")
        car.wait_for("g0")
    while not car.acks.empty():
        car.acks.get()
    gateway.mute = False
    wait_until("it answers", lambda: car.ping() and not car.acks.empty())  # it may join anew once more before
    wait_until("what was left ends", lambda: "car-link-leaves" not in {thread.name for thread in threading.enumerate()})


def test_a_car_and_its_gateway_meet_at_a_router(net: Net, authority: Authority) -> None:
    where = endpoint("tls")
    router = ZenohConfig(mode="router", listen=[where], tls=authority.tls("router"))
    net.keep(open_session(router, Member("router", "test", (SERVICE,))))
    net.keep(Acknowledging(LinkConfig(connect=[where], tls=authority.tls("gateway"))))
    car = net.keep(Car(LinkConfig(connect=[where], tls=authority.tls("car"))))
    car.wait_for("g0")
    acknowledged(car)


@pytest.mark.parametrize("protocol", ["tls", "quic"])
def test_a_car_can_ask_no_replica_and_hear_no_other_car(net: Net, authority: Authority, protocol: str) -> None:
    """Even at a router, where all of them meet, and with a client that keeps no rule of ours."""
    where = endpoint(protocol)
    router = ZenohConfig(mode="router", listen=[where], tls=authority.tls("router"))
    net.keep(open_session(router, Member("router", "test", (SERVICE,))))
    gateway = net.keep(Acknowledging(LinkConfig(connect=[where], tls=authority.tls("gateway"))))
    robot = net.robot(link=ZenohConfig(connect=[where], tls=authority.tls("robot")))
    replica = net.local("0", ZenohConfig(connect=[where], tls=authority.tls("replica", SERVICE)))
    robot.watched.wait_for(replica.who)
    car = net.keep(raw_session(where, authority.tls("car"), "cars"))
    wait_until("it sees the gateway, and nothing else", lambda: tokens_of_uplink(car) == {UPLINK.live("g0")})
    assert tokens(car) <= {UPLINK.live("g0")}
    assert replies(car, KEYS.query(replica.who)) == []
    car.put(UPLINK.up("g0", "c"), b"", attachment=PING)
    assert gateway.heard.get(timeout=LIMIT_S)[0] == "c"
    assert robot.ask(b"hello").wait() == b"hello"


def tokens_of_uplink(session: zenoh.Session) -> set[str]:
    found = session.liveliness().get(UPLINK.all_live, timeout=LIMIT_S)
    return {str(reply.ok.key_expr) for reply in found if reply.ok is not None}


WRONG: list[Callable[[Authority], tuple[TlsConfig, str]]] = [
    lambda authority: (authority.tls("robot"), "robots"),
    lambda authority: (authority.tls("replica", SERVICE), "replicas"),
    lambda authority: (authority.tls("pool"), "pools"),
]


@pytest.mark.parametrize("who", WRONG, ids=["robot", "replica", "pool"])
def test_others_of_the_fleet_are_neither_car_nor_gateway(
    net: Net, authority: Authority, who: Callable[[Authority], tuple[TlsConfig, str]]
) -> None:
    where = endpoint("tls")
    gateway = net.keep(Acknowledging(LinkConfig(listen=[where], tls=authority.tls("gateway"))))
    wrong = net.keep(raw_session(where, *who(authority)))
    wrong.put(UPLINK.up("g0", "c"), b"", attachment=PING)
    assert tokens_of_uplink(wrong) == set()
    car = net.keep(Car(LinkConfig(connect=[where], tls=authority.tls("car"))))
    car.wait_for("g0")
    acknowledged(car)
    while not gateway.heard.empty():
        assert gateway.heard.get()[0] == "car"


def test_a_car_cannot_pose_as_a_gateway(net: Net, authority: Authority) -> None:
    where = endpoint("tls")
    car = net.keep(Car(LinkConfig(listen=[where], tls=authority.tls("car"))))
    wrong = net.keep(raw_session(where, authority.tls("car"), "gateways"))
    token = wrong.liveliness().declare_token(UPLINK.live("a"))
    wrong.put(UPLINK.down("car", "a"), b"", attachment=ACK)
    net.keep(Acknowledging(LinkConfig(connect=[where], tls=authority.tls("gateway"))))
    car.wait_for("g0")
    assert car.ping()
    heard = [car.acks.get(timeout=LIMIT_S)]
    while not car.acks.empty():  # of a ping that wait_for sent
        heard.append(car.acks.get())
    assert POSED not in heard
    assert car.turns.empty()
    token.undeclare()


def test_a_stranger_is_not_let_in(net: Net, authority: Authority, tmp_path: Any) -> None:
    where = endpoint("tls")
    net.keep(Acknowledging(LinkConfig(listen=[where], tls=authority.tls("gateway"))))
    other = Authority(tmp_path / "other")
    with pytest.raises(zenoh.ZError):
        raw_session(where, authority.tls("car"), "cars", shows=False, connect_ms=REFUSED_MS)
    with pytest.raises(zenoh.ZError):
        raw_session(where, other.tls("car"), "cars", connect_ms=REFUSED_MS)
