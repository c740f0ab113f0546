"""What a service's config chooses: who is asked, which answer counts, and what happens when the fleet is gone."""

from __future__ import annotations

import math
import signal
from typing import Any

import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter

from skyfog_interfaces.msg import Status
from skyfog_interfaces.srv import Echo, PlanMotion
from support.processes import Process, wait_until
from support.ros import Fleet, caller, ros_node

PLAN = "skyfog_interfaces/srv/PlanMotion"


def echo_service(**more: object) -> dict[str, Any]:
    return {"echo": {"type": "skyfog_interfaces/srv/Echo", "deadline_ms": 10_000, **more}}


def joined(robot: Process, count: int) -> None:
    wait_until(f"{count} replicas have joined", lambda: robot.output.count("replica_joined") >= count)


def set_parameter(node: Node, name: str, value: object) -> Any:
    setter = caller(node, SetParameters, "/robot_proxy/set_parameters")
    (result,) = setter.call(SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])).results
    return result


def test_a_client_is_told_who_answered(fleet: Fleet) -> None:
    robot = fleet.robot(services=echo_service(policy="broadcast"))
    for zone in ("a", "b"):
        fleet.replica(zone, embedded="support.services:echo")
    joined(robot, 2)
    with ros_node(fleet.robot_domain) as node:
        status = caller(node, Echo, "/echo").call(Echo.Request(data=b"x")).status
    assert (status.code, status.replica in {"a/0", "b/0"}, status.local, status.asked) == (Status.OK, True, False, 2)


def test_rules_change_while_the_proxy_runs_and_wrong_ones_are_refused(fleet: Fleet) -> None:
    robot = fleet.robot(services=echo_service(policy="broadcast"))
    for zone in ("a", "b"):
        fleet.replica(zone, embedded="support.services:echo")
    joined(robot, 2)
    with ros_node(fleet.robot_domain) as node:
        echo = caller(node, Echo, "/echo")
        assert echo.call(Echo.Request(data=b"x")).status.asked == 2
        assert set_parameter(node, "services.echo.policy", "single").successful
        robot.wait_for("reconfigured")
        assert echo.call(Echo.Request(data=b"x")).status.asked == 1
        refused = set_parameter(node, "services.echo.policy", "just_one")
        assert not refused.successful
        assert "services.echo.policy" in refused.reason
        assert "'single'" in refused.reason
        conflict = set_parameter(node, "services.echo.repeat", "at_most_once")
        assert conflict.successful, "policy single may go with it"
        conflict = set_parameter(node, "services.echo.policy", "broadcast")
        assert not conflict.successful
        assert "which repeat at_most_once forbids" in conflict.reason
        missing = set_parameter(node, "services.echo.quorum_fields", ["dat"])
        assert not missing.successful
        assert "services.echo.quorum_fields: Echo_Response has no field 'dat'" in missing.reason
        assert not set_parameter(node, "services.echo.type", "std_srvs/srv/SetBool").successful, "not at run time"
        assert echo.call(Echo.Request(data=b"x")).status.asked == 1


def test_the_fallback_on_the_robot_answers_when_the_fleet_is_gone_and_says_so(fleet: Fleet) -> None:
    robot = fleet.robot(services=echo_service())
    remote = fleet.replica("a", embedded="support.services:echo")
    fleet.replica("onboard", embedded="support.services:echo", local=True)
    joined(robot, 2)
    with ros_node(fleet.robot_domain) as node:
        echo = caller(node, Echo, "/echo")
        status = echo.call(Echo.Request(data=b"x")).status
        assert (status.replica, status.local) == ("a/0", False)
        remote.signal(signal.SIGKILL)
        robot.wait_for("replica_left")
        response = echo.call(Echo.Request(data=b"x"))
        assert (response.status.replica, response.status.local) == ("onboard/0", True)
        assert bytes(response.data) == b"x"


def test_the_best_plan_by_the_slo_wins_not_the_first(fleet: Fleet) -> None:
    choice = {"answer": "best_by_deadline", "quality_field": "path_length_rad", "slo_ms": 15_000, "policy": "broadcast"}
    robot = fleet.robot(services={"plan": {"type": PLAN, "deadline_ms": 20_000, **choice}})
    for zone, length, delay_ms in (("a", 9.0, 0), ("b", 4.0, 300), ("c", math.inf, 0)):
        nodes = {"plan": {"length": length, "delay_ms": delay_ms}}
        fleet.replica(zone, service="/plan", type=PLAN, embedded="support.services:quality", nodes=nodes)
    joined(robot, 3)
    with ros_node(fleet.robot_domain) as node:
        response = caller(node, PlanMotion, "/plan").call(PlanMotion.Request())
    assert (response.path_length_rad, response.status.replica) == (4.0, "b/0")


@pytest.mark.parametrize("own", [(1, 1, 2), (1, 2, 3)], ids=["two agree", "none agree"])
def test_a_quorum_outvotes_one_and_is_told_where_there_is_none(fleet: Fleet, own: tuple[int, ...]) -> None:
    robot = fleet.robot(services=echo_service(answer="quorum", quorum=2, quorum_fields=["data"], policy="broadcast"))
    for zone, mine in zip("abc", own, strict=True):
        fleet.replica(zone, embedded="support.services:lying_echo", nodes={"echo": {"own": mine}})
    joined(robot, 3)
    with ros_node(fleet.robot_domain) as node:
        response = caller(node, Echo, "/echo").call(Echo.Request(data=b"x"))
    if own == (1, 1, 2):
        assert bytes(response.data) == b"x\x01"
    else:
        assert response.status.code == Status.OUTCOME_UNKNOWN
        assert response.status.message.startswith("NoQuorum: 2 answers should agree")


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"answer": "best_by_deadline"}, "needs quality_field"),
        ({"answer": "best_by_deadline", "quality_field": "data", "slo_ms": 9}, "services.echo.quality_field: 'data'"),
        (
            {"answer": "quorum", "quorum_fields": ["dat"]},
            "services.echo.quorum_fields: Echo_Response has no field 'dat'",
        ),
        ({"rank": "sticky", "affinity_field": "robot"}, "services.echo.affinity_field: Echo_Request has no field"),
        ({"policy": "hedged", "repeat": "at_most_once"}, "which repeat at_most_once forbids"),
        ({"slo_ms": 20_000}, "slo_ms 20000 is above deadline_ms 10000"),
        ({"health": {"ejection_ms": 70_000}}, "max_ejection_ms 60000 is below ejection_ms 70000"),
    ],
    ids=str,
)
def test_a_choice_that_cannot_be_is_refused_with_its_key(fleet: Fleet, choice: dict[str, Any], told: str) -> None:
    proxy = fleet.node(
        "robot_proxy", "robot", {"fleet": "test", "services": echo_service(**choice)}, fleet.robot_domain
    )
    assert proxy.exit_status() == 2
    assert told in proxy.output
