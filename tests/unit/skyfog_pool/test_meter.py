"""What the fleet tells of its load, made into what the policy decides by."""

from __future__ import annotations

import pytest

from skyfog_core.units import MS, S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.load import ReplicaLoad, RobotLoad
from skyfog_pool.policy.meter import MOST_ROBOTS, SILENT_NS, WINDOW_NS, LoadMeter

OURS = ReplicaKey("a", "shop-3")


def test_nothing_is_said_before_anything_was_heard() -> None:
    assert LoadMeter("shop").load(5 * S) is None


def test_requests_are_what_counters_gained_since_the_first_report() -> None:
    meter = LoadMeter("shop")
    for second, count in enumerate((1_000, 1_020, 1_050)):
        meter.on_robot_load("r", RobotLoad(boot=1, requests=count), second * S)
    load = meter.load(2 * S)
    assert load is not None
    assert (load.requests, load.window_ns) == (50, 2 * S)


def test_a_lost_report_loses_nothing_and_a_restart_begins_at_nought() -> None:
    meter = LoadMeter("shop")
    meter.on_robot_load("r", RobotLoad(boot=1, requests=10), 0)
    meter.on_robot_load("r", RobotLoad(boot=1, requests=40), 3 * S)
    meter.on_robot_load("r", RobotLoad(boot=2, requests=7), 4 * S)
    load = meter.load(4 * S)
    assert load is not None
    assert load.requests == 37


def test_two_robots_of_one_name_are_not_restarts_of_each_other_over_and_over() -> None:
    meter = LoadMeter("shop")
    for second in range(10):
        meter.on_robot_load("r", RobotLoad(boot=1, requests=1_000 + second), second * S)
        meter.on_robot_load("r", RobotLoad(boot=2, requests=5 + second), second * S)
    load = meter.load(9 * S)
    assert load is not None
    assert load.requests == 9 + 9 + 5


def test_a_flood_of_names_is_bounded() -> None:
    meter = LoadMeter("shop")
    for name in range(MOST_ROBOTS + 10):
        meter.on_robot_load(str(name), RobotLoad(boot=name), 0)
    assert len(meter._robots._last) == len(meter._robots._names) == MOST_ROBOTS


def test_what_is_older_than_the_window_is_gone_and_with_it_a_robot_that_is_silent_for_so_long() -> None:
    meter = LoadMeter("shop")
    meter.on_robot_load("r", RobotLoad(boot=1, requests=10), 0)
    meter.on_robot_load("r", RobotLoad(boot=1, requests=40), S)
    late = meter.load(S + WINDOW_NS)
    assert late is not None
    assert (late.requests, late.window_ns, late.p50_ms, late.over_slo) == (0, WINDOW_NS, None, None)
    meter.on_robot_load("r", RobotLoad(boot=1, requests=1_000), 2 * S + WINDOW_NS)
    again = meter.load(2 * S + WINDOW_NS)
    assert again is not None
    assert again.requests == 0, "they may be of long ago"


def test_queues_are_those_of_the_pools_own_replicas_that_were_heard_lately() -> None:
    meter = LoadMeter("shop")
    meter.on_replica_load(OURS, ReplicaLoad(boot=1, queued=5, running=2), 0)
    meter.on_replica_load(ReplicaKey("b", "shop-4"), ReplicaLoad(boot=1, queued=7, running=1), SILENT_NS)
    meter.on_replica_load(ReplicaKey("b", "other-4"), ReplicaLoad(boot=1, queued=100, running=1), SILENT_NS)
    load = meter.load(SILENT_NS)
    assert load is not None
    assert (load.queued, load.running) == (7, 1)


def test_the_service_time_is_the_mean_over_finished_requests() -> None:
    meter = LoadMeter("shop")
    meter.on_replica_load(OURS, ReplicaLoad(boot=1, finished=10, busy_us=10_000_000), 0)
    meter.on_replica_load(OURS, ReplicaLoad(boot=1, finished=14, busy_us=10_080_000), S)
    load = meter.load(S)
    assert load is not None
    assert load.service_ms == pytest.approx(20.0)


def test_latencies_are_taken_once_though_each_report_repeats_them() -> None:
    meter = LoadMeter("shop", slo_ms=100.0)
    meter.on_robot_load("r", RobotLoad(boot=1, answered=2, latency_us=(9_000_000, 9_000_000)), 0)
    meter.on_robot_load("r", RobotLoad(boot=1, answered=5, latency_us=(9_000_000, 10_000, 10_000, 200_000)), S)
    meter.on_robot_load("r", RobotLoad(boot=1, answered=5, latency_us=(10_000, 10_000, 200_000)), 2 * S)
    load = meter.load(2 * S)
    assert load is not None
    assert load.p50_ms == pytest.approx(10.0, rel=0.03)
    assert load.p99_ms == pytest.approx(200.0, rel=0.03)
    assert load.over_slo == pytest.approx(1 / 3)


def test_what_failed_is_over_the_slo_and_without_one_of_the_pools_the_robots_own_counts() -> None:
    meter = LoadMeter("shop")
    meter.on_robot_load("r", RobotLoad(boot=1), 0)
    meter.on_robot_load("r", RobotLoad(boot=1, requests=10, answered=8, failed=2, over_slo=3), S)
    load = meter.load(S)
    assert load is not None
    assert load.over_slo == pytest.approx(0.5)


def test_a_replicas_latency_is_the_median_of_what_robots_heard_lately_see() -> None:
    meter = LoadMeter("shop")
    for robot, took_us in (("r", 10_000), ("s", 30_000), ("t", 90_000)):
        meter.on_robot_load(robot, RobotLoad(boot=1, replicas={str(OURS): took_us, "a/strange": 1}), S)
    load = meter.load(S)
    assert load is not None
    assert load.latency_ms == {3: 30.0}
    silent = meter.load(S + SILENT_NS + MS)
    assert silent is not None
    assert silent.latency_ms == {}
