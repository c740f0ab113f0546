"""The whole way with certificates, as a user sets it up; and what a wrong one says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from skyfog_interfaces.msg import Status
from skyfog_interfaces.srv import Echo
from skyfog_router.certs import issue, make_ca
from support.ros import Fleet, caller, ros_node

ECHO_SERVICE = {"type": "skyfog_interfaces/srv/Echo", "deadline_ms": 10_000, "compress": "zstd"}


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    now = datetime.now(UTC)
    make_ca("test", tmp_path, now)
    for role, service in (("robot", ""), ("router", ""), ("replica", "/echo")):
        issue(role, "m", tmp_path, now, service)
    return tmp_path


def tls(pki: Path, stem: str) -> dict[str, str]:
    return {"ca": f"{pki}/ca.pem", "certificate": f"{pki}/{stem}.pem", "key": f"{pki}/{stem}.key"}


def test_a_call_is_answered_through_a_router_with_certificates_on_every_link(fleet: Fleet, pki: Path) -> None:
    endpoint = f"tls/127.0.0.1:{fleet.port}"
    files = [word for key, path in tls(pki, "router-m").items() for word in (f"--{key}", path)]
    words = ("--listen", endpoint, "--fleet", "test", "--service", "/echo", *files)
    router = fleet.processes.start("zenohd", "skyfog", "zenohd", *words)
    router.wait_for("ready")
    link: dict[str, Any] = {"connect": [endpoint]}
    robot = fleet.robot(services={"echo": ECHO_SERVICE}, zenoh={**link, "tls": tls(pki, "robot-m")})
    replica = {"embedded": "support.services:echo", "compress": "zstd"}
    fleet.replica("a", **replica, zenoh={**link, "tls": tls(pki, "replica-echo-m")})
    robot.wait_for("replica_joined")
    with ros_node(fleet.robot_domain) as node:
        echo = caller(node, Echo, "/echo")
        for data in (b"", bytes(1 << 20), bytes(i % 251 for i in range(10_000))):
            response = echo.call(Echo.Request(data=data))
            assert (response.status.code, bytes(response.data)) == (Status.OK, data)


@pytest.mark.parametrize(
    ("stem", "gone", "why"),
    [
        ("robot-m", "key", "zenoh.tls: key {pki}/robot-m.key: No such file or directory"),
        ("replica-echo-m", "", "zenoh.tls: certificate {pki}/replica-echo-m.pem: is for 'replica/test/echo'"),
    ],
)
def test_a_wrong_certificate_is_named_with_file_and_key(
    fleet: Fleet, pki: Path, stem: str, gone: str, why: str
) -> None:
    files = tls(pki, stem)
    if gone:
        Path(files[gone]).unlink()
    zenoh = {"listen": [f"tls/127.0.0.1:{fleet.port}"], "tls": files}
    robot = fleet.node(
        "robot_proxy",
        "robot",
        {"fleet": "test", "services": {"echo": ECHO_SERVICE}, "zenoh": zenoh},
        fleet.robot_domain,
    )
    assert robot.exit_status() == 2
    assert why.format(pki=pki) in robot.output
    assert ".yaml: " in robot.output
