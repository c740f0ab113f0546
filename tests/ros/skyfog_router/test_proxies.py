"""An ordinary ROS 2 client, a robot_proxy, replicas: the main job, and what may go wrong on the way."""

from __future__ import annotations

import signal

import pytest
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool

from skyfog_interfaces.msg import RouterState, Status
from skyfog_interfaces.srv import Echo
from skyfog_router.nodes.state import state_qos
from support.processes import wait_until
from support.ros import Fleet, all_done, caller, ros_node

ECHO_SERVICE = {"echo": {"type": "skyfog_interfaces/srv/Echo", "deadline_ms": 10_000}}


def echo_fleet(fleet: Fleet, **parameters: object) -> None:
    """A robot and one replica that it knows."""
    robot = fleet.robot(services=ECHO_SERVICE)
    fleet.replica("a", embedded="support.services:echo", **parameters)
    robot.wait_for("replica_joined")


def test_a_call_is_answered_by_an_embedded_replica_byte_for_byte(fleet: Fleet) -> None:
    echo_fleet(fleet)
    with ros_node(fleet.robot_domain) as node:
        echo = caller(node, Echo, "/echo")
        for size in (0, 1, 1_024, 1 << 20):
            data = bytes(i % 251 for i in range(size))
            response = echo.call(Echo.Request(data=data))
            assert (response.status.code, bytes(response.data)) == (Status.OK, data)


def test_an_unmodified_service_of_a_third_party_type_is_reached_through_its_proxy(fleet: Fleet) -> None:
    services = {"switch": {"name": "/arm/switch", "type": "std_srvs/srv/SetBool", "deadline_ms": 10_000}}
    proxy = fleet.robot(services=services)
    fleet.replica("a", service="/arm/switch", type="std_srvs/srv/SetBool")
    with ros_node(fleet.replica_domain) as cloud, ros_node(fleet.robot_domain) as robot:

        def switch(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
            response.success, response.message = request.data, "from the cloud"
            return response

        cloud.create_service(SetBool, "/arm/switch", switch)
        proxy.wait_for("replica_joined")
        response = caller(robot, SetBool, "/arm/switch").call(SetBool.Request(data=True))
        assert (response.success, response.message) == (True, "from the cloud")


def test_a_third_party_type_without_a_status_is_never_answered_with_an_empty_default(fleet: Fleet) -> None:
    services = {"switch": {"type": "std_srvs/srv/SetBool", "deadline_ms": 300}}
    robot = fleet.robot(services=services)
    with ros_node(fleet.robot_domain) as node:
        answer = caller(node, SetBool, "/switch").begin(SetBool.Request(data=True))
        robot.wait_for("not_answered")
        assert "NoReplica" in robot.output
        assert not answer.done()


def test_no_replica_for_the_whole_deadline_is_a_typed_failure(fleet: Fleet) -> None:
    fleet.robot(services={"echo": {**ECHO_SERVICE["echo"], "deadline_ms": 300}})
    with ros_node(fleet.robot_domain) as node:
        status = caller(node, Echo, "/echo").call(Echo.Request()).status
        assert status.code == Status.NOT_EXECUTED
        assert status.message.startswith("NoReplica: ")


@pytest.mark.parametrize("clients", [10, 1])
def test_fifty_calls_in_flight_at_once_are_all_answered(fleet: Fleet, clients: int) -> None:
    echo_fleet(fleet, concurrency=4, added_latency_ms=20)
    with ros_node(fleet.robot_domain) as node:
        qos = None if clients > 1 else QoSProfile(depth=100)
        callers = [caller(node, Echo, "/echo", qos) for _ in range(clients)]
        callers[0].call(Echo.Request())
        answers = [callers[i % clients].begin(Echo.Request(data=bytes([i]))) for i in range(50)]
        responses = all_done(answers)
        assert sorted(response.data[0] for response in responses) == list(range(50))


def test_killed_and_frozen_replicas_are_not_noticed_by_the_client(fleet: Fleet) -> None:
    robot = fleet.robot(services=ECHO_SERVICE)
    replicas = [
        fleet.replica(zone, embedded="support.services:echo", added_latency_ms=ms, concurrency=8)
        for zone, ms in (("a", 5), ("b", 15), ("c", 30))
    ]
    for zone in "abc":
        robot.wait_for(f"replica={zone}/0")
    faults = {40: (replicas[0], signal.SIGKILL), 80: (replicas[1], signal.SIGSTOP)}
    with ros_node(fleet.robot_domain) as node:
        echo = caller(node, Echo, "/echo")
        answers = []
        for i in range(120):
            if i in faults:
                victim, number = faults[i]
                victim.signal(number)
            answers.append(echo.begin(Echo.Request(data=bytes(50_000))))
            if i % 4 == 3:
                all_done(answers)
        assert [response.status.message for response in all_done(answers)] == [""] * 120


def test_a_call_waits_for_a_replica_that_comes_within_its_deadline(fleet: Fleet) -> None:
    fleet.robot(services={"echo": {**ECHO_SERVICE["echo"], "deadline_ms": 60_000}})
    with ros_node(fleet.robot_domain) as node:
        answer = caller(node, Echo, "/echo").begin(Echo.Request(data=b"x"))
        fleet.replica("late", embedded="support.services:echo")
        assert answer.result(60).status.code == Status.OK


def test_a_service_that_raises_is_a_failure_with_its_reason(fleet: Fleet) -> None:
    robot = fleet.robot(services=ECHO_SERVICE)
    fleet.replica("a", embedded="support.services:failing")
    robot.wait_for("replica_joined")
    with ros_node(fleet.robot_domain) as node:
        status = caller(node, Echo, "/echo").call(Echo.Request(data=b"abc")).status
        assert status.code == Status.FAILED
        assert "no idea what to do with 3 bytes" in status.message


def test_a_service_that_refuses_has_certainly_not_run(fleet: Fleet) -> None:
    robot = fleet.robot(services={"echo": {**ECHO_SERVICE["echo"], "deadline_ms": 2_000}})
    fleet.replica("a", embedded="support.services:without_room")
    robot.wait_for("replica_joined")
    with ros_node(fleet.robot_domain) as node:
        status = caller(node, Echo, "/echo").call(Echo.Request(data=b"abc")).status
        assert status.code == Status.NOT_EXECUTED
        assert "no room for it" in status.message


def test_a_replica_of_another_type_is_refused_before_it_runs_anything(fleet: Fleet) -> None:
    robot = fleet.robot(services=ECHO_SERVICE)
    fleet.replica("a", type="std_srvs/srv/SetBool", embedded="support.services:echo")
    robot.wait_for("replica_joined")
    with ros_node(fleet.robot_domain) as node:
        status = caller(node, Echo, "/echo").call(Echo.Request()).status
        assert status.code == Status.NOT_EXECUTED
        assert "type hash" in status.message


def test_a_second_server_of_one_name_is_reported_once(fleet: Fleet) -> None:
    robot = fleet.robot(services=ECHO_SERVICE)
    with ros_node(fleet.robot_domain) as node:
        node.create_service(Echo, "/echo", lambda _request, response: response)
        robot.wait_for("two_services_of_one_name")


def test_a_replica_withdraws_while_the_service_behind_it_is_gone(fleet: Fleet) -> None:
    robot = fleet.robot(services=ECHO_SERVICE)
    fleet.replica("a")
    with ros_node(fleet.replica_domain) as cloud:
        service = cloud.create_service(Echo, "/echo", lambda _request, response: response)
        robot.wait_for("replica_joined")
        cloud.destroy_service(service)
        robot.wait_for("replica_left")


def test_parameters_have_descriptions_and_bounds_and_those_that_are_not_live_are_read_only(fleet: Fleet) -> None:
    fleet.robot(services=ECHO_SERVICE)
    with ros_node(fleet.robot_domain) as node:
        describe = caller(node, DescribeParameters, "/robot_proxy/describe_parameters")
        name = "services.echo.deadline_ms"
        (described,) = describe.call(DescribeParameters.Request(names=[name])).descriptors
        assert described.integer_range[0].from_value == 1
        assert "failure by then" in described.description
        change = caller(node, SetParameters, "/robot_proxy/set_parameters")
        for changed, value, reason in ((name, 0, ""), ("max_in_flight", 5, "read-only"), (name, 5, None)):
            request = SetParameters.Request(parameters=[Parameter(changed, value=value).to_parameter_msg()])
            (result,) = change.call(request).results
            assert result.successful == (reason is None)
            assert (reason or "") in result.reason


def test_an_open_call_fails_typed_when_the_proxy_is_stopped_and_nothing_is_left(fleet: Fleet) -> None:
    robot = fleet.robot(services={"echo": {**ECHO_SERVICE["echo"], "deadline_ms": 60_000}})
    with ros_node(fleet.robot_domain) as node:
        states: list[RouterState] = []
        node.create_subscription(RouterState, "/robot_proxy/state", states.append, state_qos(10))
        answer = caller(node, Echo, "/echo").begin(Echo.Request())
        wait_until("the call is inside", lambda: bool(states) and states[-1].in_flight == 1)
        robot.signal(signal.SIGINT)
        assert robot.exit_status() == 0
        wait_until("the answer", answer.done)
        assert answer.result().status.code == Status.NOT_EXECUTED
        assert "shutting down" in answer.result().status.message
