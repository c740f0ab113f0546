"""car.launch.py, as a user runs it: what dies is started again, what is set up wrongly ends it all."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from skyfog_bringup.launching import pairs
from skyfog_core.errors import ConfigError
from support.car import TABLE, surroundings
from support.processes import Process, wait_until
from support.ros import free_domain

END_LIMIT_S = 60.0
TESTS = Path(__file__).parents[2]


def launched(folder: Path, domain: int, **arguments: str) -> Process:
    given = {
        "table": str(folder / "table.yaml"),
        "cameras": "front=/image",
        "transport": "support.uplink_loopback:open_link",
        **arguments,
    }
    words = (
        "ros2",
        "launch",
        "skyfog_bringup",
        "car.launch.py",
        *(f"{name}:={value}" for name, value in given.items()),
    )
    path = f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"
    env = {"ROS_DOMAIN_ID": str(domain), "PYTHONPATH": path, "LOOPBACK_DIR": str(folder)}
    (folder / "table.yaml").write_text(yaml.safe_dump(TABLE))
    return Process("launch", words, folder / "launch.log", env)


def kill(launch: Process, executable: str) -> None:
    """SIGKILL to one of the launch's nodes."""
    (pid,) = (
        child.pid
        for child in psutil.Process(launch.popen.pid).children(recursive=True)
        if any(word.endswith(f"/{executable}") for word in child.cmdline())
    )
    os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(240)
def test_a_car_is_launched_and_a_node_that_is_killed_comes_back(tmp_path: Path) -> None:
    domain = free_domain()
    launch = launched(tmp_path, domain)
    try:
        for name in ("allocator_ready", "shaper_ready", "car_client_ready", "model_ready"):
            launch.wait_for(name, 60.0)
        with surroundings(domain, client="front_client", model=False) as around:
            around.wait_for("cloud")
            around.wait_for("car")  # the real model's
            kill(launch, "shaper")
            wait_until("it is back", lambda: launch.output.count("shaper_ready") == 2)
            around.wait_for("cloud")
            kill(launch, "detect")
            wait_until("it is back", lambda: launch.output.count("model_ready") == 2, 60.0)
            around.wait_for("car")
        launch.signal(signal.SIGINT)
        assert launch.exit_status(END_LIMIT_S) == 0
        assert not launch.left()
        assert "Traceback" not in launch.output
    finally:
        launch.end()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"table": "/nonexistent.yaml"}, "/nonexistent.yaml: No such file"),
        ({"cameras": "rear=/image"}, "'rear' is not in the table test"),
        ({"cameras": "front"}, "cameras: 'front' is not service=topic"),
        ({"transport": "nothing"}, "not module:factory"),
    ],
)
def test_what_is_set_up_wrongly_ends_the_launch_with_the_reason(
    tmp_path: Path, arguments: dict[str, str], why: str
) -> None:
    launch = launched(tmp_path, free_domain(), **arguments)
    try:
        launch.exit_status(60.0)
        assert why in launch.output
    finally:
        launch.end()


def test_pairs_of_a_launch_argument() -> None:
    assert pairs("a=1, b = 2,", "x", "k=v") == {"a": "1", "b": "2"}
    for wrong in ("", "a", "a=", "=1", "a=1,a=2"):
        with pytest.raises(ConfigError, match="launch arguments: x: "):
            pairs(wrong, "x", "k=v")


def test_a_gateway_with_wrong_settings_ends_its_launch(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    values: dict[str, Any] = {"services": {"/detect": {}}, "cars": {"listen": ["nonsense"]}}
    file.write_text(yaml.safe_dump(values))
    words = ("ros2", "launch", "skyfog_bringup", "gateway.launch.py", f"config:={file}")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert "nonsense" in done.stdout + done.stderr
