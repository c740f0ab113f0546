"""Through zenoh routers of our own, as processes: in any mode, and when one ends, comes back or is cut off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.skyfog_router.conftest import Net
from integration.skyfog_router.ends import (
    HASH,
    KEYS,
    LIMIT_S,
    SERVICE,
    LocalReplica,
    TracedDriver,
    Watched,
    open_router_transport,
)
from integration.skyfog_router.relay import Relay

from skyfog_core.config.router import ZenohConfig
from skyfog_core.ports import free_tcp_port
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, Header
from support.processes import Process, Processes, wait_until

LEASE_MS = 3_000  # a busy machine may stall for a second
ZENOHD = ("-c", "import sys; from skyfog_router.cli import router; router(sys.argv[1:])")


def free_address() -> str:
    return f"127.0.0.1:{free_tcp_port()}"


class Routers:
    """Starts zenoh routers; one that is started again has the address it had."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def start(self, address: str, *others: str) -> Process:
        connect = [word for other in others for word in ("--connect", f"tcp/{other}")]
        words = ("--fleet", "test", "--listen", f"tcp/{address}", "--lease-ms", str(LEASE_MS), *connect)
        process = self._processes.python("zenohd", *ZENOHD, *words)
        process.wait_for("ready")
        return process


@pytest.fixture
def routers(tmp_path: Path) -> Iterator[Routers]:
    with Processes(tmp_path) as processes:
        yield Routers(processes)


class Calling:
    """Asks all the time, from a thread of its own, until it is told to end."""

    def __init__(self, robot: TracedDriver) -> None:
        self._robot = robot
        self._ended = threading.Event()
        self._answers: list[object] = []
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        count = 0
        while not self._ended.is_set():
            count += 1
            question = str(count).encode()
            answer = self._robot.ask(question).wait()
            with self._more:
                self._answers.append(answer if answer != question else None)
                self._more.notify_all()

    def wait_for_more(self, count: int = 20) -> None:
        """Until so many more have been answered."""
        with self._more:
            target = len(self._answers) + count
            assert self._more.wait_for(lambda: len(self._answers) >= target, LIMIT_S), "no answers"

    def end(self) -> list[object]:
        """What did not come back as it was sent."""
        self._ended.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        return [answer for answer in self._answers if answer is not None]


MODES = pytest.mark.parametrize("mode", ["peer", "client"])


@MODES
def test_robot_and_replicas_meet_at_a_router(net: Net, routers: Routers, mode: str) -> None:
    address = free_address()
    routers.start(address)
    link = ZenohConfig(mode=mode, connect=[f"tcp/{address}"])
    robot, replicas = net.robot(link=link), [net.local("0", link), net.local("1", link)]
    robot.watched.wait_for(*(replica.who for replica in replicas))
    assert robot.ask(b"hello").wait() == b"hello"


def test_a_robot_may_be_the_router_itself(net: Net) -> None:
    robot = net.robot(link=ZenohConfig(mode="router", listen=[net.endpoint]))
    replicas = [net.local(mode, ZenohConfig(mode=mode, connect=[net.endpoint])) for mode in ("peer", "client")]
    robot.watched.wait_for(*(replica.who for replica in replicas))
    assert robot.ask(b"hello").wait() == b"hello"


def test_a_robot_has_replicas_behind_a_router_and_one_beside_it(net: Net, routers: Routers) -> None:
    address = free_address()
    router = routers.start(address)
    robot = net.robot(link=ZenohConfig(listen=[net.endpoint], connect=[f"tcp/{address}"]))
    far, near = net.local("far", ZenohConfig(connect=[f"tcp/{address}"])), net.local("near")
    robot.watched.wait_for(far.who, near.who)
    router.signal(signal.SIGKILL)
    assert robot.watched.leaves.get(timeout=LIMIT_S) == far.who
    assert robot.ask(b"hello").wait() == b"hello"
    assert near.service.started.get(timeout=LIMIT_S) == b"hello"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_router_ends_in_order_when_told_to(routers: Routers, number: signal.Signals) -> None:
    router = routers.start(free_address())
    router.signal(number)
    assert router.exit_status() == 0
    assert "Traceback" not in router.output


def test_a_router_that_was_frozen_still_hears_that_it_shall_end(routers: Routers) -> None:
    addresses = free_address(), free_address()
    frozen, _ = routers.start(*addresses), routers.start(*addresses[::-1])
    for _ in range(5):  # any thread may be the one that the signal wakes
        frozen.signal(signal.SIGSTOP)
        frozen.signal(signal.SIGCONT)
    frozen.signal(signal.SIGTERM)
    assert frozen.exit_status() == 0


def test_a_router_that_cannot_listen_says_so_and_ends(routers: Routers) -> None:
    address = free_address()
    routers.start(address)
    second = routers._processes.python("zenohd", *ZENOHD, "--listen", f"tcp/{address}")
    assert second.exit_status() == 2
    assert address in second.output


@MODES
def test_all_find_each_other_again_when_the_router_was_restarted(net: Net, routers: Routers, mode: str) -> None:
    address = free_address()
    router = routers.start(address)
    link = ZenohConfig(mode=mode, connect=[f"tcp/{address}"])
    robot, replica = net.robot(link=link), net.local("0", link)
    robot.watched.wait_for(replica.who)
    calling = Calling(robot)
    calling.wait_for_more()
    router.signal(signal.SIGKILL)
    assert robot.watched.leaves.get(timeout=LIMIT_S) == replica.who
    router.exit_status()
    routers.start(address)
    robot.watched.wait_for(replica.who)
    calling.wait_for_more()
    assert calling.end() == []


@MODES
def test_a_cut_network_is_survived(net: Net, routers: Routers, mode: str) -> None:
    address = free_address()
    routers.start(address)
    relay = net.keep(Relay(address))
    robot = net.robot(link=ZenohConfig(mode=mode, connect=[f"tcp/{relay.address}"]))
    replica = net.local("0", ZenohConfig(mode=mode, connect=[f"tcp/{address}"]))
    robot.watched.wait_for(replica.who)
    calling = Calling(robot)
    for _ in range(3):
        calling.wait_for_more()
        relay.cut()
        assert robot.watched.leaves.get(timeout=LIMIT_S) == replica.who
        relay.mend()
        robot.watched.wait_for(replica.who)
    calling.wait_for_more()
    assert calling.end() == []


@MODES
def test_a_silent_network_is_noticed_by_the_lease_and_survived(net: Net, routers: Routers, mode: str) -> None:
    address = free_address()
    routers.start(address)
    relay = net.keep(Relay(address))
    link = ZenohConfig(mode=mode, connect=[f"tcp/{relay.address}"], lease_ms=LEASE_MS)
    robot, replica = net.robot(link=link), net.local("0", ZenohConfig(mode=mode, connect=[f"tcp/{address}"]))
    robot.watched.wait_for(replica.who)
    calling = Calling(robot)
    calling.wait_for_more()
    relay.hold()
    assert robot.watched.leaves.get(timeout=LIMIT_S) == replica.who
    relay.let_go()
    robot.watched.wait_for(replica.who)
    calling.wait_for_more()
    assert calling.end() == []


def test_of_two_routers_one_may_freeze(net: Net, routers: Routers) -> None:
    addresses = free_address(), free_address()
    running = [routers.start(*addresses), routers.start(*addresses[::-1])]
    link = ZenohConfig(connect=[f"tcp/{address}" for address in addresses], lease_ms=LEASE_MS)
    robot, replica = net.robot(link=link), net.local("0", link)
    robot.watched.wait_for(replica.who)
    wait_until("links to both", lambda: all(links_of(end) == 2 for end in (robot, replica)))
    calling = Calling(robot)
    calling.wait_for_more()
    running[0].signal(signal.SIGSTOP)
    wait_until("the frozen one is given up", lambda: all(links_of(end) == 1 for end in (robot, replica)))
    calling.wait_for_more()
    assert calling.end() == []
    assert robot.watched.leaves.empty()
    running[0].signal(signal.SIGCONT)
    running[0].signal(signal.SIGTERM)
    assert running[0].exit_status() == 0


@MODES
def test_of_two_routers_one_may_be_killed(net: Net, routers: Routers, mode: str) -> None:
    addresses = free_address(), free_address()
    running = [routers.start(*addresses), routers.start(*reversed(addresses))]
    links = [
        ZenohConfig(mode=mode, connect=[f"tcp/{one}", f"tcp/{other}"]) for one, other in (addresses, addresses[::-1])
    ]
    robot, replicas = net.robot(link=links[0]), [net.local(str(n), link) for n, link in enumerate(links)]
    robot.watched.wait_for(*(replica.who for replica in replicas))

    def linked() -> None:
        if mode == "peer":  # a client has one link, and takes another when it breaks
            wait_until("links to both", lambda: all(links_of(end) == 2 for end in (robot, *replicas)))

    linked()
    calling = Calling(robot)
    for victim, address in enumerate(addresses):
        calling.wait_for_more(150)  # nobody tells when the other router has heard who is there
        running[victim].signal(signal.SIGKILL)
        running[victim].exit_status()
        calling.wait_for_more(50)
        running[victim] = routers.start(address, addresses[1 - victim])
        linked()
    calling.wait_for_more(50)
    assert calling.end() == []
    assert robot.watched.leaves.empty() == (mode == "peer"), "peers have both links all the time"


def links_of(end: TracedDriver | LocalReplica) -> int:
    """How many routers it is linked to."""
    driver = end if isinstance(end, TracedDriver) else end.driver
    return len(driver._transport._session.info.routers_zid())


@MODES
def test_by_two_routers_a_request_runs_once_and_is_answered_once(net: Net, routers: Routers, mode: str) -> None:
    addresses = free_address(), free_address()
    for address, other in (addresses, addresses[::-1]):
        routers.start(address, other)
    link = ZenohConfig(mode=mode, connect=[f"tcp/{address}" for address in addresses])
    watched, transport = Watched(), net.keep(open_router_transport(link))
    transport.watch(SERVICE, KEYS, watched)
    replica = net.local("0", link)
    watched.wait_for(replica.who)
    if mode == "peer":
        wait_until("links to both", lambda: links_of(replica) == len(transport._session.info.routers_zid()) == 2)
    for n in range(20):
        request_id = bytes([n]) * 16
        header = codec.encode(Header(VERSION, request_id, 0, 15_000, HASH))
        transport.send(SERVICE, replica.who, request_id, header, b"x", 15_000)
        assert watched.replies.get(timeout=LIMIT_S) == (replica.who, b"x")
        assert watched.ends.get(timeout=LIMIT_S) == replica.who
    assert watched.replies.empty()
    assert replica.admission.started == 20


def test_an_answer_given_while_the_router_was_away_is_had_afterwards(net: Net, routers: Routers) -> None:
    address = free_address()
    router = routers.start(address)
    link = ZenohConfig(connect=[f"tcp/{address}"])
    robot, replica = net.robot(link=link), net.local("0", link, echoes=False)
    robot.watched.wait_for(replica.who)
    caller = robot.ask(b"precious")
    assert replica.service.started.get(timeout=LIMIT_S) == b"precious"
    router.signal(signal.SIGKILL)
    assert robot.watched.leaves.get(timeout=LIMIT_S) == replica.who
    replica.service.finish()
    router.exit_status()
    routers.start(address)
    assert caller.wait() == b"precious"
    assert replica.service.started.empty(), "it ran once"
