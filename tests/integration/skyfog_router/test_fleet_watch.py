"""What a pool's controller sees of the fleet, on real links: tokens, load, and whether it is linked at all."""

from __future__ import annotations

import queue
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.skyfog_router.conftest import Net
from integration.skyfog_router.ends import KEYS, LIMIT_S, POOL, SERVICE, FleetSeen, told_until
from integration.skyfog_router.test_routers import MODES, Routers, free_address

from skyfog_bringup.pool_fleet import open_fleet
from skyfog_core.config.base import parse
from skyfog_core.config.pool import ServiceSpec
from skyfog_core.config.router import ZenohConfig
from skyfog_core.errors import ConfigError, Overloaded
from skyfog_core.wire.keys import robot_chunk
from skyfog_core.wire.load import ReplicaLoad, RobotLoad
from skyfog_core.wire.membership import Announcement
from skyfog_router import load
from skyfog_router.transport.zenoh import ZenohFleetWatch, open_session
from support.processes import Processes, wait_until

PERIOD_MS = 20


@pytest.fixture
def routers(tmp_path: Path) -> Iterator[Routers]:
    with Processes(tmp_path) as processes:
        yield Routers(processes)


def watch(net: Net, link: ZenohConfig) -> tuple[ZenohFleetWatch, FleetSeen]:
    seen = FleetSeen()
    return net.keep(ZenohFleetWatch(open_session(link, POOL), KEYS, seen)), seen


def until(heard: queue.SimpleQueue[tuple[object, object]], holds: Callable[[object], bool]) -> None:
    """Until a report that comes has it."""
    while not holds(heard.get(timeout=LIMIT_S)[1]):
        pass


def spec(**skyfog: object) -> ServiceSpec:
    return parse(ServiceSpec, {"service": {"replicas": 1}, "skyfog": {"fleet": "test", **skyfog}}, "test")


@MODES
def test_behind_a_router_a_pool_sees_tokens_and_hears_what_drivers_report(
    net: Net, routers: Routers, mode: str
) -> None:
    address = free_address()
    routers.start(address)
    link = ZenohConfig(mode=mode, connect=[f"tcp/{address}"])
    _, seen = watch(net, link)
    robot, replica = net.robot(link=link), net.local("0", link)
    robot.watched.wait_for(replica.who)
    assert seen.tokens.get(timeout=LIMIT_S) == (replica.who, True)
    net.keep(load.LoadReports(load.of_robot(robot), PERIOD_MS))
    net.keep(load.LoadReports(load.of_replica(replica.driver, boot=5), PERIOD_MS))
    for _ in range(3):
        assert robot.ask(b"hello").wait() == b"hello"
    until(seen.robots, lambda told: (told.requests, told.answered, len(told.latency_us)) == (3, 3, 3))
    until(seen.replicas, lambda told: (told.boot, told.received, told.finished, told.running) == (5, 3, 3, 0))
    replica.driver.drain(draining=True)
    replica.driver.announce(None)
    assert seen.tokens.get(timeout=LIMIT_S) == (replica.who, False)
    until(seen.replicas, lambda told: told.draining)


def test_what_waits_and_what_runs_is_reported(net: Net) -> None:
    robot, replica = net.robot(), net.local("0", echoes=False, concurrency=1)
    robot.watched.wait_for(replica.who)
    asked = [robot.ask(b"x") for _ in range(3)]
    wait_until("two wait", lambda: replica.driver.snapshot(LIMIT_S).waiting == 2)
    found = load.replica_load(replica.driver.snapshot(LIMIT_S), boot=1)
    assert (found.queued, found.running, found.received, found.finished) == (2, 1, 3, 0)
    for caller in asked:
        replica.service.finish()
        assert caller.wait() == b"x"


def test_reports_stop_when_closed_and_never_begin_with_a_period_of_none() -> None:
    told: queue.SimpleQueue[None] = queue.SimpleQueue()
    load.LoadReports(lambda: told.put(None), 0).close()
    assert told.empty()
    reports = load.LoadReports(lambda: told.put(None), 1)
    for _ in range(3):
        told.get(timeout=LIMIT_S)
    reports.close()
    reports._thread.join(LIMIT_S)  # close waits for as long as a busy machine may take
    assert not reports._thread.is_alive()


def test_a_driver_that_is_too_busy_to_answer_is_asked_again() -> None:
    told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def tell() -> None:
        told.put(None)
        raise Overloaded("too busy")

    reports = load.LoadReports(tell, 1)
    for _ in range(3):
        told.get(timeout=LIMIT_S)
    reports.close()


def test_a_new_token_of_the_same_replica_is_no_news_and_the_old_one_takes_nothing_with_it(net: Net) -> None:
    listening = ZenohConfig(listen=[net.endpoint])
    _, seen = watch(net, listening)
    replica = net.local("0")
    assert seen.tokens.get(timeout=LIMIT_S) == (replica.who, True)
    replica.driver.announce(Announcement(capacity=9))
    replica.driver.announce(None)
    assert seen.tokens.get(timeout=LIMIT_S) == (replica.who, False)
    assert seen.tokens.empty()


def test_a_strange_load_is_no_load(net: Net) -> None:
    _, seen = watch(net, ZenohConfig(listen=[net.endpoint]))
    replica = net.local("0")
    assert seen.tokens.get(timeout=LIMIT_S) == (replica.who, True)

    def tell() -> None:
        replica.driver.tell_load(b"\xc1")
        replica.driver.tell_load(bytes(100_000))
        replica.driver.tell_load(load.wire.encode(ReplicaLoad(boot=1)))

    told_until(seen.replicas, tell, (replica.who, ReplicaLoad(boot=1)))


def test_a_robot_of_any_name_is_heard(net: Net) -> None:
    _, seen = watch(net, ZenohConfig(listen=[net.endpoint]))
    transport = net.robot(link=ZenohConfig(connect=[net.endpoint]))._transport
    name = "Röver / 1 *"
    expected = (robot_chunk(name), RobotLoad())
    told_until(seen.robots, lambda: transport.tell_load(SERVICE, name, load.wire.encode(RobotLoad())), expected)


def test_a_watch_that_lost_its_link_says_so(net: Net, routers: Routers) -> None:
    address = free_address()
    router = routers.start(address)
    link = ZenohConfig(connect=[f"tcp/{address}"])
    seen = FleetSeen()
    looking = net.keep(open_fleet(spec(connect=link.connect), SERVICE, seen))
    replica = net.local("0", link)
    assert seen.tokens.get(timeout=LIMIT_S) == (replica.who, True)
    assert looking.links() == 1
    router.signal(signal.SIGKILL)
    assert seen.tokens.get(timeout=LIMIT_S) == (replica.who, False)
    wait_until("it has no link", lambda: looking.links() == 0)
    router.exit_status()
    routers.start(address)
    assert seen.tokens.get(timeout=LIMIT_S) == (replica.who, True)


def test_a_controller_may_listen_itself(net: Net) -> None:
    seen = FleetSeen()
    net.keep(open_fleet(spec(listen=[net.endpoint]), SERVICE, seen))
    replica = net.local("0")
    assert seen.tokens.get(timeout=LIMIT_S) == (replica.who, True)


def test_a_fleet_that_is_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"skyfog\.connect, skyfog\.listen"):
        open_fleet(spec(), SERVICE, FleetSeen())
