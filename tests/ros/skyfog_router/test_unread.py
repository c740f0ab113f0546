"""A node whose launch is gone, and with it the reader of its output, works on, and ends on a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from skyfog_core.ports import free_tcp_port
from support.processes import LIMIT_S
from support.ros import ECHO, caller, free_domain, ros_node


@pytest.fixture
def domain() -> int:
    return free_domain()


@pytest.fixture
def replica(tmp_path: Path, domain: int) -> Iterator[subprocess.Popen[str]]:
    """With its output in a pipe, which has said that it is ready: what follows that is still being made."""
    values = {"service": "/echo", "type": ECHO, "zenoh": {"listen": [f"tcp/127.0.0.1:{free_tcp_port()}"]}}
    file = tmp_path / "replica.yaml"
    file.write_text(yaml.safe_dump({"replica_proxy": {"ros__parameters": values}}))
    words = [sys.executable, "-m", "skyfog_router.nodes.replica_proxy", "--ros-args", "--params-file", str(file)]
    env = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("replica_ready" in line for line in process.stdout)
            yield process
        finally:
            process.kill()


def test_a_replica_that_nobody_reads_any_more_works_on_and_ends_on_a_signal(
    replica: subprocess.Popen[str], domain: int
) -> None:
    assert replica.stdout is not None
    replica.stdout.close()
    with ros_node(domain) as node:
        change = caller(node, SetParameters, "/replica_proxy/set_parameters")
        for draining in (True, False):  # each of them is logged
            request = SetParameters.Request(parameters=[Parameter("draining", value=draining).to_parameter_msg()])
            assert change.call(request).results[0].successful
    replica.send_signal(signal.SIGTERM)
    assert replica.wait(LIMIT_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("read", [True, False])
def test_a_signal_while_a_replica_is_made_ends_it(
    replica: subprocess.Popen[str], number: signal.Signals, read: bool
) -> None:
    assert replica.stdout is not None
    if not read:
        replica.stdout.close()
    replica.send_signal(number)
    said = replica.stdout.read() if read else ""
    assert replica.wait(LIMIT_S) == 0
    assert "Traceback" not in said
