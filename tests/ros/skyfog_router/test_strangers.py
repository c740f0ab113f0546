"""Replicas that answer what is no reply: another one's answer is used, or the client gets a typed failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.membership import Announcement, to_chunk
from skyfog_interfaces.msg import Status
from skyfog_interfaces.srv import Echo
from support import stranger
from support.ros import ECHO, Fleet, caller, ros_node

KINDS = [
    "no_header",
    "garbage_header",
    "future_version",
    "garbage_payload",
    "huge_sequence",
    "empty_payload",
    "other_request",
]


def start_stranger(fleet: Fleet, how: str) -> None:
    keys, who = ServiceKeys("test", "/echo"), ReplicaKey("a", "stranger")
    source = Path(__file__).parents[3] / "src" / "skyfog_core"
    fleet.processes.python(
        "stranger",
        str(Path(stranger.__file__)),
        fleet.endpoint,
        keys.live(who, to_chunk(Announcement())),
        keys.query(who),
        how,
        env={"PYTHONPATH": str(source)},
    )


@pytest.mark.parametrize("how", KINDS)
def test_a_strange_reply_is_a_typed_failure_and_a_healthy_replica_makes_it_a_success(fleet: Fleet, how: str) -> None:
    robot = fleet.robot(services={"echo": {"type": ECHO, "deadline_ms": 10_000}})
    start_stranger(fleet, how)
    robot.wait_for("replica_joined")
    with ros_node(fleet.robot_domain) as node:
        echo = caller(node, Echo, "/echo")
        alone = echo.call(Echo.Request(data=b"abc"))
        assert alone.status.code == Status.OUTCOME_UNKNOWN
        assert alone.status.message.startswith("InvalidReply: a/stranger: ")
        fleet.replica("b", embedded="support.services:echo")
        robot.wait_for("replica=b/0")
        beside = echo.call(Echo.Request(data=b"abc"))
        assert (beside.status.code, bytes(beside.data)) == (Status.OK, b"abc")
    assert robot.popen.poll() is None, robot.output
