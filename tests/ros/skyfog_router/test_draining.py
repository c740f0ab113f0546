"""A replica that goes: what was taken is finished, and nobody is asked in vain."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from skyfog_interfaces.msg import Status
from skyfog_interfaces.srv import Echo
from support.processes import Process, wait_until
from support.ros import Fleet, all_done, caller, ros_node

SERVICES = {"echo": {"type": "skyfog_interfaces/srv/Echo", "deadline_ms": 30_000}}


def gated(fleet: Fleet, robot: Process, **parameters: object) -> Process:
    trace = str(fleet.folder / "trace.jsonl")
    replica = fleet.replica("a", embedded="support.services:gated_echo", trace=trace, **parameters)
    robot.wait_for("replica_joined")
    return replica


def wait_for_arrival(fleet: Fleet, count: int) -> None:
    """Until the replica has taken this many queries."""
    trace = fleet.folder / "trace.jsonl"
    wait_until(f"{count} queries", lambda: trace.read_text().count('"query"') == count)


def gates(folder: Path, count: int) -> list[Path]:
    return [folder / f"gate {n}" for n in range(count)]


def begin(node, paths: list[Path]):
    echo = caller(node, Echo, "/echo")
    return [echo.begin(Echo.Request(data=str(path).encode())) for path in paths]


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]])
def test_a_signal_drops_the_token_and_what_runs_and_waits_is_answered(
    fleet: Fleet, tmp_path: Path, numbers: list[signal.Signals]
) -> None:
    robot = fleet.robot(services=SERVICES)
    replica = gated(fleet, robot, drain_ms=25_000)
    paths = gates(tmp_path, 4)
    with ros_node(fleet.robot_domain) as node:
        answers = begin(node, paths)
        wait_for_arrival(fleet, len(paths))
        for number in numbers:
            replica.signal(number)
        robot.wait_for("replica_left")
        assert not any(answer.done() for answer in answers)
        for path in paths:
            path.touch()
        assert [response.status.code for response in all_done(answers)] == [Status.OK] * len(paths)
    assert replica.exit_status() == 0
    assert "Traceback" not in replica.output


def test_a_second_signal_ends_at_once(fleet: Fleet, tmp_path: Path) -> None:
    robot = fleet.robot(services=SERVICES)
    replica = gated(fleet, robot, drain_ms=3_600_000)
    with ros_node(fleet.robot_domain) as node:
        begin(node, gates(tmp_path, 1))
        replica.wait_for("began")
        replica.signal(signal.SIGTERM)
        replica.wait_for("finishing")

        def ended() -> bool:
            if replica.popen.poll() is None:
                replica.signal(signal.SIGTERM)
            return replica.popen.poll() is not None

        wait_until("the end", ended)
    assert replica.exit_status() == 0
    assert "service_left_running" in replica.output


def test_after_its_time_a_replica_ends_with_work_left(fleet: Fleet, tmp_path: Path) -> None:
    robot = fleet.robot(services=SERVICES)
    replica = gated(fleet, robot, drain_ms=100)
    with ros_node(fleet.robot_domain) as node:
        begin(node, gates(tmp_path, 1))
        replica.wait_for("began")
        replica.signal(signal.SIGTERM)
        assert replica.exit_status() == 0


def test_a_forwarded_call_is_finished_too(fleet: Fleet) -> None:
    robot = fleet.robot(services=SERVICES)
    replica = fleet.replica("a", drain_ms=25_000)
    began, gate = threading.Event(), threading.Event()

    def held(request: Echo.Request, response: Echo.Response) -> Echo.Response:
        began.set()
        gate.wait(30)
        response.data = request.data
        return response

    with ros_node(fleet.replica_domain) as cloud, ros_node(fleet.robot_domain) as node:
        cloud.create_service(Echo, "/echo", held)
        robot.wait_for("replica_joined")
        answer = caller(node, Echo, "/echo").begin(Echo.Request(data=b"x"))
        assert began.wait(30)
        replica.signal(signal.SIGTERM)
        robot.wait_for("replica_left")
        gate.set()
        assert answer.result(30).status.code == Status.OK
        assert replica.exit_status() == 0


def test_a_parameter_drains_a_replica_and_brings_it_back(fleet: Fleet, tmp_path: Path) -> None:
    robot = fleet.robot(services=SERVICES)
    gated(fleet, robot)
    paths = gates(tmp_path, 2)
    with ros_node(fleet.robot_domain) as node, ros_node(fleet.replica_domain) as cloud:
        change = caller(cloud, SetParameters, "/replica_proxy/set_parameters")

        def drain(draining: bool) -> None:
            request = SetParameters.Request(parameters=[Parameter("draining", value=draining).to_parameter_msg()])
            assert change.call(request).results[0].successful

        answers = begin(node, paths)
        wait_for_arrival(fleet, len(paths))
        drain(True)
        robot.wait_for("replica_left")
        for path in paths:
            path.touch()
        assert [response.status.code for response in all_done(answers)] == [Status.OK] * 2
        drain(False)
        wait_until("it is back", lambda: robot.output.count("replica_joined") == 2)
        assert all_done(begin(node, paths[:1]))[0].status.code == Status.OK
