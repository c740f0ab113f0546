"""Real nodes, watched from outside: Prometheus, topics, diagnostics, the trace, and the commands that read them."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from prometheus_client.parser import text_string_to_metric_families

from skyfog_interfaces.msg import RouterState
from skyfog_interfaces.srv import Echo
from skyfog_router.nodes.state import state_qos
from support.processes import Process, wait_until
from support.ros import Fleet, caller, ros_node

SERVICES = {"echo": {"type": "skyfog_interfaces/srv/Echo", "deadline_ms": 10_000}}
LIMIT_S = 10.0
CALLS = 5


def url_of(process: Process) -> str:
    process.wait_for("metrics_served")
    found = re.search(r"url=(\S+)", process.output)
    assert found
    return found.group(1)


def samples(url: str) -> dict[str, dict[frozenset[str], float]]:
    """By name, then by the values of the labels."""
    with urllib.request.urlopen(url, timeout=LIMIT_S) as response:
        text = response.read().decode()
    found: dict[str, dict[frozenset[str], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.values())] = sample.value
    return found


def skyfog(fleet: Fleet, *words: str) -> str:
    process = fleet.processes.start("skyfog", *words, env={"ROS_DOMAIN_ID": str(fleet.robot_domain)})
    assert process.exit_status() == 0, process.output
    return process.output


def test_one_run_is_told_alike_by_metrics_topics_commands_and_the_trace(fleet: Fleet, tmp_path: Path) -> None:
    trace = tmp_path / "robot.jsonl"
    robot = fleet.robot(services=SERVICES, robot="anna", metrics_listen="127.0.0.1:0", trace=str(trace))
    fleet.replica("a", embedded="support.services:echo", price_per_hour=0.25, concurrency=2)
    robot.wait_for("replica_joined")
    states: list[RouterState] = []
    with ros_node(fleet.robot_domain) as node:
        node.create_subscription(RouterState, "/robot_proxy/state", states.append, state_qos(10))
        echo = caller(node, Echo, "/echo")
        for _ in range(CALLS):
            assert echo.call(Echo.Request(data=b"x")).status.code == 0
        wait_until("a state of them all", lambda: bool(states) and states[-1].delivered == CALLS)
    state = states[-1]
    assert (state.robot, state.service, state.policy, state.called) == ("anna", "/echo", "slo", CALLS)
    (seen,) = state.replicas
    assert (seen.zone, seen.won, seen.price_per_hour, seen.capacity) == ("a", CALLS, 0.25, 2)

    url = url_of(robot)
    metrics = samples(url)
    assert metrics["skyfog_router_requests_total"] == {frozenset(["/echo"]): CALLS}
    assert metrics["skyfog_router_outcomes_total"] == {frozenset(["/echo", "delivered"]): CALLS}
    assert metrics["skyfog_router_request_duration_seconds_count"] == {frozenset(["/echo"]): CALLS}
    assert sum(metrics["skyfog_router_sends_total"].values()) == state.sends
    assert metrics["skyfog_router_replica_wins_total"] == {frozenset(["/echo", "a", "0"]): CALLS}

    (row,) = json.loads(skyfog(fleet, "ros2", "skyfog", "status", "--json", "--wait", "20"))
    assert (row["robot"], row["service"], row["delivered"]) == ("anna", "/echo", CALLS)
    assert "a/0" in skyfog(fleet, "skyfog", "replicas", "--wait", "20")
    told = skyfog(fleet, "skyfog", "trace", str(trace))
    assert f"/echo: {CALLS} requests: {CALLS} delivered" in told
    assert told.count("asked a/0 (first)") == CALLS

    robot.signal(signal.SIGINT)
    assert robot.exit_status() == 0
    with pytest.raises(urllib.error.URLError):
        samples(url)


def test_diagnostics_turn_from_error_to_ok_when_a_replica_comes(fleet: Fleet) -> None:
    fleet.robot(services=SERVICES)
    statuses: list[DiagnosticStatus] = []

    def heard(array: Any) -> None:
        statuses.extend(status for status in array.status if status.name == "robot_proxy: /echo")

    with ros_node(fleet.robot_domain) as node:
        node.create_subscription(DiagnosticArray, "/diagnostics", heard, 10)
        wait_until("an error", lambda: any(status.level == DiagnosticStatus.ERROR for status in statuses))
        assert statuses[-1].message == "no replica is there"
        fleet.replica("a", embedded="support.services:echo")
        wait_until("all is well", lambda: statuses[-1].level == DiagnosticStatus.OK)
        assert statuses[-1].message == "1 replicas"
