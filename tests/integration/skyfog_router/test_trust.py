"""Certificates on real links: the right ones work, and nobody else gets or spoils anything."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
import zenoh
from integration.skyfog_router.conftest import Net
from integration.skyfog_router.ends import (
    KEYS,
    LIMIT_S,
    POOL,
    SAID,
    SERVICE,
    FleetSeen,
    LocalReplica,
    TracedDriver,
    told_until,
)
from integration.skyfog_router.trust import REFUSED_MS, Authority, lawless_router, raw_session, replies, tokens

from skyfog_core.config.router import TlsConfig, ZenohConfig
from skyfog_core.ports import free_tcp_port
from skyfog_core.wire import load
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys, robot_chunk
from skyfog_core.wire.load import ReplicaLoad, RobotLoad
from skyfog_core.wire.membership import to_chunk
from skyfog_router.acl import Member
from skyfog_router.transport.zenoh import ZenohFleetWatch, open_session
from support.processes import wait_until

OTHER = "/other"
ROUTER = Member("router", "test", (SERVICE, OTHER))
FAKE = ReplicaKey("strange", "0")
UNNAMED = robot_chunk("")  # the robot of these tests
T = TypeVar("T")


class Fleet:
    """A robot and a replica that a router joins, all with certificates."""

    def __init__(self, net: Net, authority: Authority, protocol: str) -> None:
        self.endpoint = f"{protocol}/127.0.0.1:{free_tcp_port()}"
        self.authority = authority
        self.net = net
        net.keep(open_session(ZenohConfig(mode="router", listen=[self.endpoint], tls=authority.tls("router")), ROUTER))
        self.robot: TracedDriver = net.robot(link=self.link(authority.tls("robot")))
        self.replica = self.another("0")

    def link(self, tls: TlsConfig) -> ZenohConfig:
        return ZenohConfig(connect=[self.endpoint], tls=tls)

    def another(self, name: str) -> LocalReplica:
        """One more replica, known to the robot when this returns, before whom nobody strange has joined."""
        replica: LocalReplica = self.net.local(name, self.link(self.authority.tls("replica", SERVICE)))
        assert self.robot.watched.joins.get(timeout=LIMIT_S) == replica.who
        return replica

    def works(self) -> bool:
        return self.robot.ask(b"hello").wait() == b"hello"

    def watched(self) -> FleetSeen:
        """What a pool's controller sees from now on."""
        seen = FleetSeen()
        session = open_session(self.link(self.authority.tls("pool")), POOL)
        self.net.keep(ZenohFleetWatch(session, KEYS, seen))
        assert seen.tokens.get(timeout=LIMIT_S) == (self.replica.who, True)
        return seen

    def enter(self, tls: TlsConfig, region: str) -> zenoh.Session:
        return self.net.keep(raw_session(self.endpoint, tls, region))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture(params=["tls", "quic"])
def fleet(net: Net, authority: Authority, request: pytest.FixtureRequest) -> Fleet:
    return Fleet(net, authority, request.param)


def test_those_with_the_right_certificates_meet_at_a_router(fleet: Fleet) -> None:
    assert fleet.works()


@pytest.mark.parametrize("protocol", ["tls", "quic"])
def test_those_with_the_right_certificates_need_no_router(net: Net, authority: Authority, protocol: str) -> None:
    endpoint = f"{protocol}/127.0.0.1:{free_tcp_port()}"
    robot = net.robot(link=ZenohConfig(listen=[endpoint], tls=authority.tls("robot")))
    replica = net.local("0", ZenohConfig(connect=[endpoint], tls=authority.tls("replica", SERVICE)))
    robot.watched.wait_for(replica.who)
    assert robot.ask(b"hello").wait() == b"hello"


@pytest.mark.parametrize("mode", ["peer", "client"])
def test_those_with_the_right_certificates_meet_by_two_routers(net: Net, authority: Authority, mode: str) -> None:
    one, other = (f"tls/127.0.0.1:{free_tcp_port()}" for _ in range(2))
    for listen, connect in ((one, []), (other, [one])):
        config = ZenohConfig(mode="router", listen=[listen], connect=connect, tls=authority.tls("router"))
        net.keep(open_session(config, ROUTER))
    robot = net.robot(link=ZenohConfig(mode=mode, connect=[one], tls=authority.tls("robot")))
    replica = net.local("0", ZenohConfig(mode=mode, connect=[other], tls=authority.tls("replica", SERVICE)))
    robot.watched.wait_for(replica.who)
    assert robot.ask(b"hello").wait() == b"hello"


def test_a_robot_may_dial_its_replicas(net: Net, authority: Authority) -> None:
    endpoint = f"tls/127.0.0.1:{free_tcp_port()}"
    replica = net.local("0", ZenohConfig(listen=[endpoint], tls=authority.tls("replica", SERVICE)))
    robot = net.robot(link=ZenohConfig(connect=[endpoint], tls=authority.tls("robot")))
    robot.watched.wait_for(replica.who)
    assert robot.ask(b"hello").wait() == b"hello"


def test_a_withdrawal_passes(fleet: Fleet) -> None:
    slow = fleet.net.local("slow", fleet.link(fleet.authority.tls("replica", SERVICE)), echoes=False)
    fleet.robot.watched.wait_for(slow.who)
    assert fleet.works()
    slow.driver.cancels.get(timeout=LIMIT_S)


@pytest.mark.parametrize("who", ["nobody", "a stranger", "one whose time is over", "one who trusts another CA"])
def test_who_has_no_good_certificate_is_not_let_in(fleet: Fleet, tmp_path: Path, who: str) -> None:
    good, strange = fleet.authority.tls("robot"), Authority(tmp_path / "strange").tls("robot")
    shown = {
        "nobody": good,
        "a stranger": strange.model_copy(update={"ca": good.ca}),
        "one whose time is over": fleet.authority.tls("robot", expires=timedelta(minutes=-1)),
        "one who trusts another CA": good.model_copy(update={"ca": strange.ca}),
    }[who]
    fleet.enter(good, "robots")  # so that it is not for another reason
    with pytest.raises(zenoh.ZError):
        raw_session(fleet.endpoint, shown, "robots", shows=who != "nobody", connect_ms=REFUSED_MS)
    assert fleet.works()


def test_a_link_ends_when_its_certificate_does(net: Net, authority: Authority) -> None:
    fleet = Fleet(net, authority, "tls")
    passing = net.local("passing", fleet.link(authority.tls("replica", SERVICE, expires=timedelta(seconds=12))))
    fleet.robot.watched.wait_for(passing.who)
    assert fleet.robot.watched.leaves.get(timeout=LIMIT_S) == passing.who
    assert fleet.works()


@pytest.fixture
def poses() -> Iterator[Callable[[zenoh.Session, ServiceKeys], None]]:
    kept: list[object] = []

    def act(session: zenoh.Session, keys: ServiceKeys) -> None:
        def on_query(query: zenoh.Query) -> None:
            with query:
                query.reply(query.key_expr, b"false")

        handler = zenoh.handlers.Callback(on_query, indirect=False)
        kept.append(session.declare_queryable(keys.query(FAKE), handler, complete=True))
        kept.append(session.liveliness().declare_token(keys.live(FAKE, to_chunk(SAID))))

    yield act
    kept.clear()


Pose = Callable[[zenoh.Session, ServiceKeys], None]


def live(keys: ServiceKeys, replica: ReplicaKey) -> str:
    return keys.live(replica, to_chunk(SAID))


def test_a_replica_in_its_place_is_seen_and_answers(fleet: Fleet, poses: Pose) -> None:
    # the other tests of this file show nothing unless this one passes
    watcher = fleet.enter(fleet.authority.tls("robot"), "robots")
    poses(fleet.enter(fleet.authority.tls("replica", SERVICE), "replicas"), KEYS)
    fleet.robot.watched.wait_for(FAKE)
    both = {live(KEYS, FAKE), live(KEYS, fleet.replica.who)}
    wait_until("both", lambda: tokens(watcher) == both)
    wait_until("its answer", lambda: replies(watcher, KEYS.query(FAKE)) == [b"false"])
    assert tokens(watcher) == both


def test_a_robot_cannot_answer(fleet: Fleet, poses: Pose) -> None:
    watcher = fleet.enter(fleet.authority.tls("robot"), "robots")
    wrong = fleet.enter(fleet.authority.tls("robot"), "replicas")
    poses(wrong, KEYS)
    wait_until("what it may do works, after what it may not", lambda: live(KEYS, fleet.replica.who) in tokens(wrong))
    fleet.another("1")
    assert live(KEYS, FAKE) not in tokens(watcher)
    assert replies(watcher, KEYS.query(FAKE)) == []
    assert fleet.works()


def test_a_replica_cannot_ask(fleet: Fleet) -> None:
    wrong = fleet.enter(fleet.authority.tls("replica", SERVICE), "robots")
    assert replies(wrong, KEYS.query(fleet.replica.who)) == []
    assert tokens(wrong) == set()
    right = fleet.enter(fleet.authority.tls("robot"), "robots")
    wait_until("a robot may", lambda: replies(right, KEYS.query(fleet.replica.who)) != [])
    assert fleet.works()


def test_a_replica_cannot_answer_for_another_service(fleet: Fleet, poses: Pose) -> None:
    watcher = fleet.enter(fleet.authority.tls("robot"), "robots")
    wrong = fleet.enter(fleet.authority.tls("replica", OTHER), "replicas")
    poses(wrong, KEYS)
    poses(wrong, ServiceKeys("test", OTHER))
    wait_until("its own it may", lambda: replies(watcher, ServiceKeys("test", OTHER).query(FAKE)) == [b"false"])
    fleet.another("1")
    assert live(KEYS, FAKE) not in tokens(watcher)
    assert replies(watcher, KEYS.query(FAKE)) == []
    assert fleet.works()


def test_a_pool_sees_who_is_live_and_hears_the_load_of_both_sides(fleet: Fleet) -> None:
    seen = fleet.watched()
    robot, replica = load.encode(RobotLoad(requests=7)), load.encode(ReplicaLoad(finished=8))
    told_until(seen.robots, lambda: fleet.robot.tell_load(SERVICE, robot), (UNNAMED, RobotLoad(requests=7)))
    told = (fleet.replica.who, ReplicaLoad(finished=8))
    told_until(seen.replicas, lambda: fleet.replica.driver.tell_load(replica), told)
    another = fleet.another("1")
    assert seen.tokens.get(timeout=LIMIT_S) == (another.who, True)
    another.close()
    assert seen.tokens.get(timeout=LIMIT_S) == (another.who, False)


def puts(session: zenoh.Session, wrong: str, wrong_load: load.Load, right: str, right_load: load.Load) -> None:
    session.put(wrong, load.encode(wrong_load))
    session.put(right, load.encode(right_load))


def test_robots_and_replicas_cannot_tell_each_others_load(fleet: Fleet) -> None:
    seen = fleet.watched()
    of_robot, of_replica = KEYS.robot_load("r"), KEYS.replica_load(FAKE)
    robot = fleet.enter(fleet.authority.tls("robot"), "robots")
    what = lambda: puts(robot, of_replica, ReplicaLoad(), of_robot, RobotLoad())  # noqa: E731
    told_until(seen.robots, what, ("r", RobotLoad()))
    assert seen.replicas.empty()
    replica = fleet.enter(fleet.authority.tls("replica", SERVICE), "replicas")
    what = lambda: puts(replica, KEYS.robot_load("x"), RobotLoad(), of_replica, ReplicaLoad())  # noqa: E731
    told_until(seen.replicas, what, (FAKE, ReplicaLoad()))
    assert "x" not in {robot for robot, _ in drained(seen.robots)}  # what the robot told may come late


def test_a_replica_cannot_tell_the_load_of_another_service(fleet: Fleet) -> None:
    seen = fleet.watched()
    replica = fleet.enter(fleet.authority.tls("replica", OTHER), "replicas")
    own = ServiceKeys("test", OTHER)
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    pool = fleet.enter(fleet.authority.tls("pool"), "pools")
    listening = pool.declare_subscriber(own.all_loads[0], lambda sample: heard.put(str(sample.key_expr)))
    what = lambda: puts(replica, KEYS.replica_load(FAKE), ReplicaLoad(), own.replica_load(FAKE), ReplicaLoad())  # noqa: E731
    told_until(heard, what, own.replica_load(FAKE))
    listening.undeclare()
    told = (fleet.replica.who, ReplicaLoad())
    told_until(seen.replicas, lambda: fleet.replica.driver.tell_load(load.encode(ReplicaLoad())), told)
    assert all(who != FAKE for who, _ in drained(seen.replicas))


def drained(heard: queue.SimpleQueue[T]) -> list[T]:
    found = []
    while not heard.empty():
        found.append(heard.get())
    return found


def test_a_pool_can_neither_ask_nor_answer_nor_withdraw(fleet: Fleet, poses: Pose) -> None:
    watcher = fleet.enter(fleet.authority.tls("robot"), "robots")
    for region in ("pools", "robots", "replicas"):
        wrong = fleet.enter(fleet.authority.tls("pool"), region)
        assert replies(wrong, KEYS.query(fleet.replica.who)) == []
        poses(wrong, KEYS)
        wrong.put(KEYS.cancel(fleet.replica.who), bytes(16))
        wait_until("what it may do works", lambda wrong=wrong: live(KEYS, fleet.replica.who) in tokens(wrong))
    fleet.another("1")
    assert live(KEYS, FAKE) not in tokens(watcher)
    assert replies(watcher, KEYS.query(FAKE)) == []
    assert fleet.works()
    assert bytes(16) not in drained(fleet.replica.driver.cancels)  # the robot's own may be there


@pytest.mark.parametrize(("role", "service", "region"), [("robot", "", "robots"), ("replica", SERVICE, "replicas")])
def test_only_a_pool_hears_the_load(fleet: Fleet, role: str, service: str, region: str) -> None:
    seen = fleet.watched()
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    curious = fleet.enter(fleet.authority.tls(role, service), region)
    for key in KEYS.all_loads:
        fleet.net.keep(Undeclared(curious.declare_subscriber(key, lambda sample: heard.put(str(sample.key_expr)))))
    wait_until(
        "it is part of the network", lambda: role == "replica" or live(KEYS, fleet.replica.who) in tokens(curious)
    )
    told = (fleet.replica.who, ReplicaLoad())
    told_until(seen.replicas, lambda: fleet.replica.driver.tell_load(load.encode(ReplicaLoad())), told)
    told_until(seen.robots, lambda: fleet.robot.tell_load(SERVICE, load.encode(RobotLoad())), (UNNAMED, RobotLoad()))
    assert heard.empty()


class Undeclared:
    """Closes a subscriber with the test."""

    def __init__(self, subscriber: object) -> None:
        self._subscriber = subscriber

    def close(self) -> None:
        self._subscriber.undeclare()


def test_a_robot_that_listens_keeps_others_out_by_itself(net: Net, authority: Authority, poses: Pose) -> None:
    endpoint = f"tls/127.0.0.1:{free_tcp_port()}"
    robot = net.robot(link=ZenohConfig(listen=[endpoint], tls=authority.tls("robot")))
    for tls in (authority.tls("robot"), authority.tls("replica", OTHER)):
        poses(net.keep(raw_session(endpoint, tls, "replicas")), KEYS)
    replica = net.local("0", ZenohConfig(connect=[endpoint], tls=authority.tls("replica", SERVICE)))
    assert robot.watched.joins.get(timeout=LIMIT_S) == replica.who
    assert robot.ask(b"hello").wait() == b"hello"


def test_a_large_payload_passes(fleet: Fleet) -> None:
    payload = os.urandom(64 << 20)
    assert fleet.robot.ask(payload).wait() == payload


@pytest.mark.parametrize(("role", "service"), [("router", ""), ("robot", ""), ("replica", OTHER)])
def test_a_robot_hears_nothing_from_a_router_that_is_none(
    net: Net, authority: Authority, poses: Pose, role: str, service: str
) -> None:
    endpoint = f"tls/127.0.0.1:{free_tcp_port()}"
    net.keep(lawless_router(endpoint, authority.tls(role, service)))
    poses(net.keep(raw_session(endpoint, authority.tls("replica", SERVICE), "replicas")), KEYS)
    robot = net.robot(link=ZenohConfig(connect=[endpoint], tls=authority.tls("robot")))
    session = robot._transport._session
    wait_until("its link", lambda: len(session.info.routers_zid()) == 1)
    other = net.keep(raw_session(endpoint, authority.tls("robot"), "robots"))
    wait_until("what is there", lambda: tokens(other) == {live(KEYS, FAKE)})
    if role == "router":
        robot.watched.wait_for(FAKE)
        wait_until("the same for us", lambda: tokens(session) == {live(KEYS, FAKE)})
    else:
        assert tokens(session) == set()
        assert robot.watched.joins.empty()
