"""A wrong parameter file: one clear line with file and key, exit status 2, nothing hangs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.processes import Process, Processes
from support.ros import ECHO, free_domain

ROBOT: dict[str, Any] = {"services": {"echo": {"type": ECHO}}}
REPLICA: dict[str, Any] = {"service": "/echo", "type": ECHO}

CASES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("unknown key", "robot_proxy", {**ROBOT, "flet": "x"}, ["flet: unknown key", "did you mean 'fleet'"]),
    (
        "unknown key below",
        "robot_proxy",
        {"services": {"echo": {"type": ECHO, "deadlin_ms": 5}}},
        ["services.echo.deadlin_ms: unknown key", "'deadline_ms'"],
    ),
    (
        "list for a number",
        "robot_proxy",
        {"services": {"echo": {"type": ECHO, "deadline_ms": [1, 2]}}},
        ["services.echo.deadline_ms", "valid integer", "[1, 2]"],
    ),
    (
        "list of two types",
        "robot_proxy",
        {"services": {"echo": {"type": ECHO, "deadline_ms": [1, "a"]}}},
        ["services.echo.deadline_ms", "int and str"],
    ),
    ("empty list", "robot_proxy", {**ROBOT, "zenoh": {"connect": []}}, ["zenoh.connect", "leave the key out"]),
    (
        "below its bound",
        "robot_proxy",
        {"services": {"echo": {"type": ECHO, "deadline_ms": 0}}},
        ["services.echo.deadline_ms", "greater than or equal to 1"],
    ),
    ("no services", "robot_proxy", {"fleet": "x"}, ["services: is missing"]),
    (
        "unknown type",
        "robot_proxy",
        {"services": {"echo": {"type": "skyfog_interfaces/srv/Ecko"}}},
        ["services.echo.type", "no service 'Ecko'", "did you mean 'Echo'"],
    ),
    (
        "unknown package",
        "robot_proxy",
        {"services": {"echo": {"type": "no_such_msgs/srv/Echo"}}},
        ["services.echo.type", "no such package", "sourced"],
    ),
    (
        "two services of one name",
        "robot_proxy",
        {"services": {"echo": {"type": ECHO}, "other": {"type": ECHO, "name": "/echo"}}},
        ["services.other.name", "/echo is offered by services.echo already"],
    ),
    ("fleet with a slash", "robot_proxy", {**ROBOT, "fleet": "a/b"}, ["fleet", "'a/b'"]),
    (
        "endpoint",
        "robot_proxy",
        {**ROBOT, "zenoh": {"connect": ["nonsense"]}},
        ["zenoh.connect", "nonsense", "<protocol>/<address>"],
    ),
    (
        "metrics address",
        "robot_proxy",
        {**ROBOT, "metrics_listen": "9464"},
        ["metrics_listen", "'9464': not HOST:PORT", "127.0.0.1:9464"],
    ),
    (
        "metrics address elsewhere",
        "robot_proxy",
        {**ROBOT, "metrics_listen": "192.0.2.1:0"},
        ["metrics_listen", "'192.0.2.1:0': cannot listen there"],
    ),
    ("zone with a star", "replica_proxy", {**REPLICA, "zone": "*"}, ["zone", "'*'"]),
    ("no such module", "replica_proxy", {**REPLICA, "embedded": "no_such:thing"}, ["embedded", "cannot import"]),
    ("no such factory", "replica_proxy", {**REPLICA, "embedded": "json:thing"}, ["embedded", "no 'thing'"]),
]


def refused(processes: Processes, executable: str, path: Path) -> Process:
    arguments = ("-m", f"skyfog_router.nodes.{executable}", "--ros-args", "--params-file", str(path))
    return processes.python(executable, *arguments, env={"ROS_DOMAIN_ID": str(free_domain())})


@pytest.mark.parametrize(("executable", "values", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_wrong_file_is_refused_with_file_and_key(
    tmp_path: Path, executable: str, values: dict[str, Any], expected: list[str]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({executable: {"ros__parameters": values}}))
    with Processes(tmp_path) as processes:
        process = refused(processes, executable, path)
        assert process.exit_status() == 2, process.output
    for text in [str(path), *expected]:
        assert text in process.output
    assert "Traceback" not in process.output


def test_what_is_no_yaml_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("robot_proxy:\n  ros__parameters:\n    x: [\n")
    with Processes(tmp_path) as processes:
        process = refused(processes, "robot_proxy", path)
        assert process.exit_status() == 2
    assert f"{path}: is not YAML" in process.output
    assert "line" in process.output
