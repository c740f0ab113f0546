"""A replica_proxy watched from outside; the robot's end is not needed for that."""

from __future__ import annotations

import re
import signal
import urllib.request
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from prometheus_client.parser import text_string_to_metric_families
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from skyfog_interfaces.srv import Echo
from support.processes import Process, wait_until
from support.ros import Fleet, caller, ros_node

LIMIT_S = 10.0
NAME = "replica_proxy: /echo a/0"


def value(process: Process, name: str, **labels: str) -> float:
    process.wait_for("metrics_served")
    found = re.search(r"url=(\S+)", process.output)
    assert found
    with urllib.request.urlopen(found.group(1), timeout=LIMIT_S) as response:
        families = text_string_to_metric_families(response.read().decode())
    return next(s.value for f in families for s in f.samples if s.name == name and s.labels == labels)


def test_runs_are_counted_and_timed_and_the_port_is_free_at_the_end(fleet: Fleet) -> None:
    robot = fleet.robot(services={"echo": {"type": "skyfog_interfaces/srv/Echo", "policy": "broadcast"}})
    replica = fleet.replica("a", embedded="support.services:echo", concurrency=3, metrics_listen="127.0.0.1:0")
    robot.wait_for("replica_joined")
    with ros_node(fleet.robot_domain) as node:
        echo = caller(node, Echo, "/echo")
        for _ in range(3):
            echo.call(Echo.Request(data=b"x"))
    assert value(replica, "skyfog_replica_up") == 1
    assert value(replica, "skyfog_replica_concurrency", service="/echo") == 3
    assert value(replica, "skyfog_replica_runs_started_total", service="/echo") == 3
    assert value(replica, "skyfog_replica_service_duration_seconds_count", service="/echo") == 3
    assert value(replica, "skyfog_replica_queries_refused_total", service="/echo", reason="full") == 0
    replica.signal(signal.SIGINT)
    assert replica.exit_status() == 0


def test_diagnostics_say_who_is_missing_and_when_all_is_well(fleet: Fleet) -> None:
    heard: list[DiagnosticStatus] = []

    def listen(array: Any) -> None:
        heard.extend(status for status in array.status if status.name == NAME)

    fleet.replica("a")  # forwards to a service that is not there, and no robot is
    with ros_node(fleet.replica_domain) as cloud:
        cloud.create_subscription(DiagnosticArray, "/diagnostics", listen, 10)
        wait_until("an error", lambda: any(status.level == DiagnosticStatus.ERROR for status in heard))
        assert heard[-1].message == "linked with nobody; the service behind it is not there"
        assert heard[-1].hardware_id == "a/0"
        fleet.robot(services={"echo": {"type": "skyfog_interfaces/srv/Echo"}})
        wait_until("a warning", lambda: heard[-1].level == DiagnosticStatus.WARN)
        assert heard[-1].message == "the service behind it is not there"
        cloud.create_service(Echo, "/echo", lambda _request, response: response)
        wait_until("all is well", lambda: heard[-1].level == DiagnosticStatus.OK)
        assert {pair.key: pair.value for pair in heard[-1].values}["links"] == "1"
        change = caller(cloud, SetParameters, "/replica_proxy/set_parameters")
        drain = Parameter("draining", value=True).to_parameter_msg()
        assert change.call(SetParameters.Request(parameters=[drain])).results[0].successful
        wait_until("it drains", lambda: (heard[-1].level, heard[-1].message) == (DiagnosticStatus.WARN, "it drains"))
