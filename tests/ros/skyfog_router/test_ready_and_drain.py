"""What a runner asks a replica over HTTP: whether it is ready, and to drain. And that nobody cold is announced."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from skyfog_interfaces.msg import Status
from skyfog_interfaces.srv import Echo
from support.processes import Process, wait_until
from support.ros import Fleet, all_done, caller, ros_node

LIMIT_S = 10.0
SERVICES = {"echo": {"type": "skyfog_interfaces/srv/Echo", "deadline_ms": 60_000}}
HTTP = {"metrics_listen": "127.0.0.1:0"}


def ask(process: Process, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    process.wait_for("metrics_served")
    found = re.search(r"url=(\S+)/metrics", process.output)
    assert found
    request = urllib.request.Request(f"{found.group(1)}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def is_ready(process: Process) -> bool:
    return ask(process, "/ready")[0] == 200


def test_a_replica_is_ready_until_it_is_told_to_drain_and_then_it_gets_nothing(fleet: Fleet, tmp_path: Path) -> None:
    trace = tmp_path / "robot.jsonl"
    robot = fleet.robot(services=SERVICES, trace=str(trace))
    going = fleet.replica("a", embedded="support.services:echo", **HTTP)
    fleet.replica("b", embedded="support.services:echo")
    wait_until("both", lambda: robot.output.count("replica_joined") == 2)
    assert ask(going, "/ready") == (
        200,
        {"ready": True, "draining": False, "drained": False, "running": 0, "waiting": 0, "why": ""},
    )
    asked, ended = 0, threading.Event()
    with ros_node(fleet.robot_domain) as node:
        echo = caller(node, Echo, "/echo")
        while not ended.is_set():
            assert echo.call(Echo.Request(data=b"x")).status.code == Status.OK
            asked += 1
            if asked == 20:
                status, told = ask(going, "/drain?within_s=5", "POST")
                assert (status, told["ready"], told["draining"], told["why"]) == (202, False, True, "it drains")
            if asked > 20 and "replica_left" in robot.output:
                ended.set()
        for _ in range(20):
            assert echo.call(Echo.Request(data=b"x")).status.code == Status.OK
    wait_until("it is drained", lambda: ask(going, "/ready")[1]["drained"])
    assert ask(going, "/ready")[0] == 503
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    of_it = [event["event"] for event in events if event.get("replica") == "a/0" and event["event"] in {"sent", "left"}]
    assert "sent" in of_it
    assert of_it[-1] == "left", "it was asked after its token was gone"


def test_what_cannot_be_finished_in_time_is_run_by_another(fleet: Fleet, tmp_path: Path) -> None:
    robot = fleet.robot(services={"echo": {**SERVICES["echo"], "policy": "single"}})
    going = fleet.replica("a", embedded="support.services:gated_echo", **HTTP)
    robot.wait_for("replica_joined")
    gates = [tmp_path / f"gate{n}" for n in range(3)]
    with ros_node(fleet.robot_domain) as node:
        echo = caller(node, Echo, "/echo")
        answers = [echo.begin(Echo.Request(data=str(gate).encode())) for gate in gates]
        wait_until("a queue", lambda: ask(going, "/ready")[1]["waiting"] == 2)
        other = fleet.replica("b", embedded="support.services:gated_echo", concurrency=2)
        wait_until("another", lambda: robot.output.count("replica_joined") == 2)
        assert ask(going, "/drain?within_s=0.1", "POST")[0] == 202
        wait_until("what waited runs there", lambda: other.output.count("began") == 2)
        _, told = ask(going, "/ready")
        assert (told["running"], told["waiting"]) == (1, 0)
        for gate in gates:
            gate.touch()
        assert {response.status.code for response in all_done(answers)} == {Status.OK}
    assert going.output.count("began") == 1
    wait_until("it is drained", lambda: ask(going, "/ready")[1]["drained"])


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/ready", "POST", 405),
        ("/drain", "GET", 405),
        ("/drain?within_s=soon", "POST", 400),
        ("/drain?within_s=-1", "POST", 400),
        ("/drain?within_s=nan", "POST", 400),
    ],
)
def test_a_wrong_question_changes_nothing(fleet: Fleet, path: str, method: str, status: int) -> None:
    replica = fleet.replica("a", embedded="support.services:echo", **HTTP)
    wait_until("it is ready", lambda: is_ready(replica))
    assert ask(replica, path, method)[0] == status
    assert is_ready(replica)


def test_nobody_is_sent_to_a_replica_that_still_warms_up(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    robot = fleet.robot(services=SERVICES)
    replica = fleet.replica("a", embedded="support.services:warming_echo", nodes={"echo": {"gate": str(gate)}}, **HTTP)
    replica.wait_for("warming")
    status, told = ask(replica, "/ready")
    assert (status, told["why"]) == (503, "it warms up")
    assert "replica_joined" not in robot.output
    gate.write_text("")
    robot.wait_for("replica_joined")
    assert is_ready(replica)


def test_a_service_that_cannot_even_warm_up_is_never_announced_and_says_why(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.write_text("it is broken")
    replica = fleet.replica("a", embedded="support.services:warming_echo", nodes={"echo": {"gate": str(gate)}}, **HTTP)
    replica.wait_for("warm_up_failed")
    status, told = ask(replica, "/ready")
    assert (status, told["why"]) == (503, "its warm-up failed: RuntimeError: it is broken")


def test_the_warm_up_can_be_left_out(fleet: Fleet, tmp_path: Path) -> None:
    nodes = {"echo": {"gate": str(tmp_path / "never")}}
    replica = fleet.replica("a", embedded="support.services:warming_echo", nodes=nodes, warm_up=False, **HTTP)
    wait_until("it is ready", lambda: is_ready(replica))
    assert "warming" not in replica.output
