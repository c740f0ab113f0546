"""What robots and replicas tell of their load, from what their drivers know."""

from __future__ import annotations

from dataclasses import replace

from unit.skyfog_router.drivers import SERVICE, Replica, Robot
from unit.skyfog_router.test_replica_driver import DONE, A, B, X, Y, arrive, joined, query

from skyfog_core.clock import ManualClock
from skyfog_core.units import MS
from skyfog_core.wire import load as wire
from skyfog_core.wire.load import MOST_LATENCIES, ReplicaLoad, RobotLoad
from skyfog_router import load
from support.snapshots import CALM, HEALTHY, QUIET


def test_a_replica_tells_what_it_did_and_does() -> None:
    clock = ManualClock()
    replica = Replica(clock, max_queue=1)
    arrive(replica, query(X), query(X), query(Y), query(b"z" * 16))
    replica.handler.finish(DONE)
    replica.owner.step()
    load.of_replica(replica.driver, boot=9)()
    (told,) = map(wire.decode_replica, replica.transport.loads)
    assert told == ReplicaLoad(
        boot=9, received=4, finished=1, refused=1, busy_us=DONE.service_us, queued=0, running=1, draining=False
    )
    replica.driver.drain(True)
    load.of_replica(replica.driver, boot=9)()
    assert wire.decode_replica(replica.transport.loads[-1]).draining


def test_a_robot_tells_what_it_asked_for_and_how_long_answers_took() -> None:
    clock = ManualClock()
    robot, a, _ = joined(clock)
    for took_ms in (5, 7):
        robot.call()
        robot.owner.step()
        a.owner.step()
        clock.advance(took_ms * MS)
        a.handler.finish(DONE)
        robot.owner.step()
    robot.call()
    robot.owner.step()
    load.of_robot(robot.driver)()
    ((service, _, data),) = robot.transport.loads
    told = wire.decode_robot(data)
    assert service == SERVICE
    assert (told.requests, told.answered, told.failed) == (3, 2, 0)
    assert told.latency_us == (5_000, 7_000)
    assert set(told.replicas) <= {str(A), str(B)}


def test_two_processes_of_one_robot_are_told_apart() -> None:
    robot = Robot(ManualClock())
    for _ in range(2):
        load.of_robot(robot.driver)()
    load.of_robot(robot.driver)()
    boots = [wire.decode_robot(data).boot for _, _, data in robot.transport.loads]
    assert len(set(boots)) == 3, "each reporter draws its own"


def test_the_fallback_on_the_robot_is_no_replica_of_the_fleet_and_what_is_unknown_is_left_out() -> None:
    replicas = (HEALTHY, replace(HEALTHY, replica="1", local=True), replace(HEALTHY, replica="2", p50_ms=None))
    told = load.robot_load(replace(CALM, replicas=replicas, slo_ms=None), boot=1)
    assert told == RobotLoad(
        boot=1, requests=101, answered=100, over_slo=1, slo_ms=0, replicas={"us-west/0": 42_500}, latency_us=()
    )


def test_a_report_of_the_largest_fleet_can_be_read() -> None:
    replicas = tuple(replace(HEALTHY, zone="z" * 60, replica=f"{n:060}") for n in range(2_000))
    snapshot = replace(CALM, replicas=replicas, recent_us=(2**40,) * MOST_LATENCIES)
    assert len(wire.decode_robot(wire.encode(load.robot_load(snapshot, boot=1))).replicas) == wire.MOST_REPLICAS
    assert wire.decode_replica(wire.encode(load.replica_load(QUIET, boot=2**32 - 1))).refused == 5
