"""`skyfog demo` and the launch files, as a user runs them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest

from skyfog_bringup.images import package_photographs
from skyfog_core.ports import free_tcp_port
from skyfog_core.shm import used_by
from support.processes import wait_until
from support.ros import free_domain

pytestmark = pytest.mark.alone  # a demo waits 30 s for its processes, and then no request may fail

RUN_LIMIT_S = 100.0
END_LIMIT_S = 40.0


@pytest.fixture
def env() -> dict[str, str]:
    return os.environ | {"ROS_DOMAIN_ID": str(free_domain())}


def of_session(leader: int) -> list[psutil.Process]:
    """The living processes of a session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def mentions(folder: Path) -> list[str]:
    """The living processes whose command names `folder`: each node of a demo is given files in it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(str(folder) in word for word in process.cmdline()):
                found.append(" ".join(process.cmdline()))
    return found


@contextlib.contextmanager
def command(*words: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a session of its own, of which nothing lives on."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
    try:
        yield process
    finally:
        for left in of_session(process.pid):
            left.kill()
        process.wait(END_LIMIT_S)


def shm_of(process: psutil.Process) -> set[str]:
    """What ROS 2 and zenoh put into shared memory; other libraries' files there outlive processes on purpose."""
    mapped = {file.path for file in process.memory_maps() if file.path.startswith("/dev/shm/")}
    return {path for path in mapped if "fastrtps" in path or "zenoh" in path}


@pytest.mark.timeout(180)
def test_a_kill_and_a_freeze_and_no_request_fails(tmp_path: Path, env: dict[str, str]) -> None:
    out = tmp_path / "out"
    log = tmp_path / "demo.txt"
    with command("skyfog", "demo", "--seconds", "12", "--out", str(out), env=env, log=log) as demo:
        status = demo.wait(RUN_LIMIT_S)
    assert status == 0, log.read_text()
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    assert {"name", "commit", "machine", "versions", "seed", "rows", "goals", "faults", "requests"} <= result.keys()
    assert all(goal["met"] for goal in result["goals"])
    assert [fault["kind"] for fault in result["faults"]] == ["SIGKILL", "SIGSTOP"]
    before, killed, frozen, whole = result["rows"]
    assert whole["failed"] == 0
    assert whole["requests"] == len(result["requests"]) == sum(row["requests"] for row in (before, killed, frozen))
    assert whole["requests"] >= 50  # 12 s at 5 a second, on a machine that may be busy
    gone = [fault["zone"] for fault in result["faults"]]
    assert len(set(gone)) == 2
    assert gone[0] in before["won"]
    assert gone[1] in killed["won"]
    winners = [max(row["won"], key=row["won"].get) for row in (killed, frozen)]
    assert gone[0] not in (winners[0], winners[1])
    assert winners[1] not in gone
    assert all(request["zone"] for request in result["requests"]), "each winner is known"
    assert f"{whole['requests']} requests, 0 failed." in log.read_text()
    assert cv2.imread(str(out / "latency.png")) is not None
    pictures = {path.name for path in out.glob("annotated_*.jpg")}
    assert {"annotated_chelsea.jpg", "annotated_coffee.jpg", "annotated_motorcycle_left.jpg"} <= pictures
    names = {path.name for path in (out / "log").iterdir()}
    assert {"robot_proxy.log", "camera.log", "replica_0.log", "launch.log", "robot_trace.jsonl"} <= names
    assert mentions(out) == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_however_the_demo_ends_nothing_is_left(tmp_path: Path, env: dict[str, str], number: signal.Signals) -> None:
    out = tmp_path / "out"
    log = tmp_path / "demo.txt"
    shared: set[str] = set()
    with command("skyfog", "demo", "--seconds", "6", "--out", str(out), env=env, log=log) as demo:
        wait_until("the freeze", lambda: "SIGSTOP" in log.read_text(), 60.0)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(str(out) in word for word in process.cmdline()):
                    shared |= shm_of(process)
        assert shared
        demo.send_signal(number)
        assert demo.wait(END_LIMIT_S) == (128 + number if number != signal.SIGKILL else -number)
        wait_until("the nodes are gone", lambda: mentions(out) == [], END_LIMIT_S)
    if number != signal.SIGKILL:
        assert "no process was left behind" in log.read_text()
        others = {str(file) for pid in psutil.pids() for file in used_by(pid)}  # ports below 10000 are all domains'
        assert [path for path in shared - others if Path(path).exists()] == []
        assert not (out / "log" / "tmp").exists()


@pytest.mark.timeout(90)
def test_a_fleet_that_cannot_start_says_why(tmp_path: Path, env: dict[str, str]) -> None:
    broken = tmp_path / "skyfog_perception" / "nodes"
    broken.mkdir(parents=True)
    for folder in (broken, broken.parent):
        (folder / "__init__.py").touch()
    (broken / "detect.py").write_text(
        "from skyfog_core.errors import ConfigError\nraise ConfigError('no such model')\n"
    )
    env["PYTHONPATH"] = f"{tmp_path}:{env.get('PYTHONPATH', '')}"
    log = tmp_path / "demo.txt"
    words = ("skyfog", "demo", "--seconds", "6", "--out", str(tmp_path / "out"))
    with command(*words, env=env, log=log) as demo:
        assert demo.wait(60.0) == 3
    text = log.read_text()
    assert "ended with status 2" in text
    assert "no such model" in text


@pytest.mark.timeout(150)
def test_a_user_plays_a_folder_over_one_replica(tmp_path: Path, env: dict[str, str]) -> None:
    """One replica: no fault can be injected, and the demo says so."""
    shots = tmp_path / "shots"
    shots.mkdir()
    cat = next(path for path in package_photographs() if path.stem == "chelsea")
    (shots / "my cat.png").write_bytes(cat.read_bytes())
    out = tmp_path / "out"
    log = tmp_path / "demo.txt"
    words = ("--seconds", "6", "--rate", "2", "--replicas", "1", "--image", str(shots), "--out", str(out))
    with command("ros2", "skyfog", "demo", *words, env=env, log=log) as demo:
        assert demo.wait(RUN_LIMIT_S) == 0, log.read_text()
    result = json.loads((out / "result.json").read_text())
    assert result["faults"] == []
    assert {request["image"] for request in result["requests"]} == {"my cat"}
    assert (out / "annotated_my cat.jpg").exists()
    assert "one must stay healthy" in log.read_text()


@pytest.mark.timeout(150)
def test_launch_files_start_a_robot_and_a_replica(tmp_path: Path, env: dict[str, str]) -> None:
    endpoint = f"tcp/127.0.0.1:{free_tcp_port()}"
    robot, cloud = tmp_path / "robot.txt", tmp_path / "cloud.txt"
    cloud_words = ("cloud.launch.py", "zone:=us-west-2a", "replica:=7", f"connect:={endpoint}")
    with (
        command("ros2", "launch", "-n", "skyfog_bringup", *cloud_words, env=env, log=cloud) as one,
        command("ros2", "launch", "-n", "skyfog_bringup", "robot.launch.py", f"listen:={endpoint}", env=env, log=robot),
    ):
        wait_until("the replica joins", lambda: "replica=us-west-2a/7" in robot.read_text(), 40.0)
        one.send_signal(signal.SIGINT)
        one.wait(END_LIMIT_S)
        wait_until("the replica leaves", lambda: "replica_left" in robot.read_text())
    assert "Traceback" not in robot.read_text() + cloud.read_text()


@pytest.mark.parametrize("name", ["robot", "cloud", "demo"])
def test_launch_files_say_what_they_can_be_given(name: str, env: dict[str, str]) -> None:
    words = ["ros2", "launch", "skyfog_bringup", f"{name}.launch.py", "--show-args"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=True)
    own = {"robot": "'listen'", "cloud": "'zone': failure domain", "demo": "'replicas': replicas, one in each zone"}
    assert own[name] in done.stdout


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("demo.launch.py", "replicas:=many"), "replicas: input should be a valid integer, not 'many'"),
        (("demo.launch.py", "replicas:=9"), "replicas: input should be less than or equal to 6, not 9"),
        (("robot.launch.py", "profile:=moon"), "\"moon\" is not valid. Valid options are: .'sim', 'lab', 'prod'"),
    ],
)
def test_a_wrong_launch_argument_is_named(
    words: tuple[str, ...], problem: str, env: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "launch.txt"
    with command("ros2", "launch", "-n", "skyfog_bringup", *words, env=env, log=log) as launch:
        assert launch.wait(60.0) != 0
    text = " ".join(log.read_text().split())
    assert re.search(problem, text), text


def test_the_steady_clock_is_one_for_all_processes() -> None:
    """What joins the camera's record with the robot's trace."""
    before = time.monotonic_ns()
    words = ["python3", "-c", "import time; print(time.monotonic_ns())"]
    between = int(subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout)
    assert before < between < time.monotonic_ns()
