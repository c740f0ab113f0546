"""The runner, as a process, with real replica commands below it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from skyfog_core.ports import free_tcp_port
from skyfog_pool import children, report
from skyfog_pool.notices import Written
from skyfog_pool.policy.doomed import SAFETY_S
from skyfog_pool.report import Status
from skyfog_pool.runner import DONE
from support.processes import LIMIT_S, is_alive, wait_until

# A replica whose state stands in files: `ready` while that is there, `busy` requests, and it notes what it is told.
REPLICA = """
import http.server, json, os, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def say(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/ready":
            draining = pathlib.Path("drained_by").exists()
            busy = pathlib.Path("busy").exists()
            told = {"running": int(busy), "waiting": 0, "drained": draining and not busy}
            self.say(503 if draining or not pathlib.Path("ready").exists() else 200, json.dumps(told).encode())
        else:
            self.say(207, f"{self.path} {self.headers['X-Asked']}".encode())
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.startswith("/drain"):
            pathlib.Path("part").write_text(self.path)
            pathlib.Path("part").rename("drained_by")  # whoever finds it finds all of it
            self.say(202, b"")
        else:
            self.say(201, body[::-1])
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SKYFOG_SERVICE_PORT"])), Handler).serve_forever()
"""


class Running:
    """A runner in a folder."""

    def __init__(self, folder: Path, command: str, output: int | None = None, **environment: str) -> None:
        self.folder = folder
        self.port, self.service_port = free_tcp_port(), free_tcp_port()
        (folder / "replica.py").write_text(REPLICA)
        self.log = folder / "runner.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "skyfog_pool.runner"],
                cwd=folder,
                stdout=log if output is None else output,
                stderr=log if output is None else output,
                env={
                    **os.environ,
                    "PYTHONPATH": children.import_path(),
                    report.RUNNER_LISTEN: f"127.0.0.1:{self.port}",
                    report.SERVICE_PORT: str(self.service_port),
                    report.COMMAND: command,
                    report.NOTICE_SOURCE: "file",
                    report.NOTICE_FILE: str(folder / "notice"),
                    report.GRACE_S: "3",
                    **environment,
                },
            )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=LIMIT_S)
        wait_until("it listens", self._listens)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        connections = psutil.Process(self.process.pid).net_connections("tcp")
        return any(connection.status == psutil.CONN_LISTEN for connection in connections)

    def status(self, after: int = -1, wait_s: float = 0.0) -> Status:
        answer = self.http.get("/status", params={"after": after, "wait_s": wait_s})
        return msgspec.json.decode(answer.content, type=Status)

    def until(self, holds: Callable[[Status], bool], limit_s: float = LIMIT_S) -> Status:
        """By long polls alone."""
        end = time.monotonic() + limit_s
        status = self.status()
        while not holds(status):
            assert time.monotonic() < end, f"{status}\n{self.log.read_text()}"
            status = self.status(status.change, 1.0)
        return status

    def notice(self, kind: Any, in_s: float | None) -> None:
        fresh = self.folder / "fresh"
        fresh.write_bytes(msgspec.json.encode(Written(kind, None if in_s is None else time.time() + in_s)))
        fresh.rename(self.folder / "notice")

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> int:
        """By SIGTERM."""
        self.process.terminate()
        return self.process.wait(LIMIT_S)

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            below = self.below()
            self.process.kill()
            self.process.wait()
            for process in below:
                with contextlib.suppress(psutil.NoSuchProcess):  # the kernel may have been faster
                    process.kill()


SERVE = f"exec {sys.executable} replica.py"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(command: str = SERVE, output: int | None = None, **environment: str) -> Running:
        started.append(Running(tmp_path, command, output, **environment))
        return started[-1]

    yield start
    for running in started:
        running.close()


def test_it_is_ready_when_the_replica_is_and_passes_on_what_is_not_its_own(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    runner = run()
    starting = runner.until(lambda status: status.phase == "starting")
    assert runner.http.get("/x").status_code in {503, 207}
    (tmp_path / "ready").touch()
    ready = runner.until(lambda status: status.phase == "ready")
    assert ready.change > starting.change
    assert ready.boot == starting.boot
    answer = runner.http.get("/v1/models?a=b%20c", headers={"X-Asked": "yes"})
    assert (answer.status_code, answer.text) == (207, "/v1/models?a=b%20c yes")
    assert runner.http.post("/echo", content=b"abc").text == "cba"
    (tmp_path / "ready").unlink()
    runner.until(lambda status: status.phase == "starting")


def test_a_long_poll_ends_at_its_limit_where_nothing_changes(run: Callable[..., Running], tmp_path: Path) -> None:
    (tmp_path / "ready").touch()
    runner = run()
    ready = runner.until(lambda status: status.phase == "ready")
    assert runner.status(ready.change, 0.2) == ready


def test_a_drain_is_passed_on_and_done_when_nothing_runs(run: Callable[..., Running], tmp_path: Path) -> None:
    (tmp_path / "ready").touch()
    (tmp_path / "busy").touch()
    runner = run()
    runner.until(lambda status: status.phase == "ready" and status.running == 1)
    assert runner.http.post("/drain?within_s=7").status_code == 202
    draining = runner.until(lambda status: status.phase == "draining" and status.running == 1)
    assert draining.exit_status is None
    wait_until("the replica is told", (tmp_path / "drained_by").exists)
    assert (tmp_path / "drained_by").read_text() == "/drain?within_s=7.000"
    (tmp_path / "busy").unlink()
    assert runner.until(lambda status: status.phase == "drained").running == 0
    assert runner.below()  # it is not ended: that is for who gives the machine back


def test_a_replica_without_a_drain_gets_sigterm_and_is_drained_when_it_has_ended(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    finish = "while [ ! -e may_end ]; do sleep 0.05; done; echo done > finished; exit 0"
    runner = run(f"trap '{finish}' TERM; echo > begun; while :; do sleep 0.05; done")
    wait_until("it has begun", (tmp_path / "begun").exists)
    runner.http.post("/drain")
    runner.until(lambda status: status.phase == "draining")
    (tmp_path / "may_end").touch()
    assert runner.until(lambda status: status.phase == "drained").exit_status == 0
    assert (tmp_path / "finished").exists()


def test_an_interruption_drains_at_once_and_a_rebalance_does_not(run: Callable[..., Running], tmp_path: Path) -> None:
    (tmp_path / "ready").touch()
    runner = run()
    runner.until(lambda status: status.phase == "ready")
    runner.notice("rebalance", 0.0)
    told = runner.until(lambda status: status.notice is not None)
    assert told.notice is not None
    assert (told.phase, told.notice.kind) == ("ready", "rebalance")
    runner.notice("interruption", 60.0)
    wait_until("the replica is told", (tmp_path / "drained_by").exists)
    told = runner.until(lambda status: status.phase == "drained")
    assert told.notice is not None
    assert told.notice.kind == "interruption"
    assert told.notice.in_s == pytest.approx(60.0, abs=20.0)


SERVES_ON = {report.ON_NOTICE: "serve", report.DRAIN_S: "1"}  # it drains SAFETY_S before the end


def test_with_serve_it_is_ready_after_its_notice_and_drains_before_the_end_by_itself(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    (tmp_path / "ready").touch()
    runner = run(**SERVES_ON)
    runner.until(lambda status: status.phase == "ready")
    runner.notice("interruption", SAFETY_S + 4.0)  # time for us to look
    told = runner.until(lambda status: status.notice is not None)
    assert (told.phase, told.exit_status) == ("ready", None)
    assert runner.http.get("/x").status_code == 207
    assert not (tmp_path / "drained_by").exists()
    done = runner.until(lambda status: status.phase == "drained")  # nobody told it to
    assert done.notice is not None
    assert done.notice.in_s is not None
    assert 0.0 < done.notice.in_s <= SAFETY_S
    within_s = float((tmp_path / "drained_by").read_text().partition("within_s=")[2])
    assert 0.0 < within_s <= SAFETY_S


def test_with_serve_a_drain_is_one_at_once(run: Callable[..., Running], tmp_path: Path) -> None:
    (tmp_path / "ready").touch()
    runner = run(**SERVES_ON)
    runner.until(lambda status: status.phase == "ready")
    runner.notice("interruption", 600.0)
    assert runner.until(lambda status: status.notice is not None).phase == "ready"
    runner.http.post("/drain?within_s=7")
    assert runner.until(lambda status: status.phase == "drained").notice is not None
    assert (tmp_path / "drained_by").read_text() == "/drain?within_s=7.000"


@pytest.mark.parametrize("in_s", [None, SAFETY_S - 1])
def test_with_serve_and_no_time_for_it_a_notice_drains_at_once(
    run: Callable[..., Running], tmp_path: Path, in_s: float | None
) -> None:
    (tmp_path / "ready").touch()
    runner = run(**SERVES_ON)
    runner.until(lambda status: status.phase == "ready")
    runner.notice("interruption", in_s)
    assert runner.until(lambda status: status.notice is not None).phase in {"draining", "drained"}
    runner.until(lambda status: status.phase == "drained")


def test_what_the_machine_does_not_permit_ends_it_and_is_said(run: Callable[..., Running], tmp_path: Path) -> None:
    """A full disk, say: here the note that SETUP is done cannot be written."""
    (tmp_path / DONE).mkdir()
    status = run("exec sleep 600", **{report.SETUP: "true"}).until(lambda status: status.phase == "ended")
    assert "could not be run" in status.message
    assert DONE in status.message


def test_setup_runs_once_and_its_failure_ends_it(run: Callable[..., Running], tmp_path: Path) -> None:
    first = run(SKYFOG_SETUP="echo x >> setups")
    first.until(lambda status: status.phase == "starting")
    assert first.end() == 0
    second = run(SKYFOG_SETUP="echo x >> setups")
    second.until(lambda status: status.phase == "starting")
    assert (tmp_path / "setups").read_text() == "x\n"
    assert second.status().boot != 0
    assert second.end() == 0
    third = run(SKYFOG_SETUP="exit 7")
    ended = third.until(lambda status: status.phase == "ended")
    assert ended.exit_status == 7
    assert "setup" in ended.message


def test_a_replica_that_ends_is_told_with_its_status(run: Callable[..., Running]) -> None:
    ended = run("exit 3").until(lambda status: status.phase == "ended")
    assert ended.exit_status == 3


def test_a_drain_during_setup_ends_it_and_starts_nothing(run: Callable[..., Running], tmp_path: Path) -> None:
    runner = run("touch started", SKYFOG_SETUP="touch setting; exec sleep 60")
    wait_until("setup has begun", (tmp_path / "setting").exists)
    runner.http.post("/drain")
    runner.until(lambda status: status.phase == "drained")
    assert not (tmp_path / "started").exists()


def test_sigterm_ends_the_replica_and_all_that_it_started(run: Callable[..., Running], tmp_path: Path) -> None:
    """Also what ignores SIGTERM, is in a session of its own, and whose parent has ended."""
    stubborn = "trap '' TERM; sleep 600 & echo $$ > stubborn; wait"
    runner = run(f'setsid --fork bash -c "{stubborn.replace("$$", chr(92) + "$$")}"; exec sleep 600')
    wait_until("it is there", lambda: (tmp_path / "stubborn").exists() and (tmp_path / "stubborn").read_text() != "")
    below = runner.below()
    assert len(below) >= 3
    assert runner.end() == 0
    assert [process for process in below if is_alive(process.pid)] == []


def test_orphans_that_end_leave_no_zombies(run: Callable[..., Running]) -> None:
    runner = run("for i in 1 2 3; do setsid --fork true; done; exec sleep 600")
    runner.until(lambda status: status.phase == "starting")

    def only_the_replica() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):  # they may be, while we look
            return [process.name() for process in runner.below()] == ["sleep"]
        return False

    wait_until("they are reaped", only_the_replica)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (report.COMMAND, ""),
        (report.RUNNER_LISTEN, "nowhere"),
        (report.NOTICE_SOURCE, "awss"),
        (report.GRACE_S, "soon"),
    ],
)
def test_a_wrong_environment_is_named(tmp_path: Path, name: str, value: str) -> None:
    environment = {report.COMMAND: "true", report.RUNNER_LISTEN: "127.0.0.1:0", name: value}
    ended = subprocess.run(
        [sys.executable, "-m", "skyfog_pool.runner"],
        env={**os.environ, "PYTHONPATH": children.import_path(), **environment},
        cwd=tmp_path,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
        text=True,
    )
    assert ended.returncode == 2
    assert (name if value != "awss" else "did you mean 'aws'") in ended.stdout + ended.stderr


def test_one_that_nobody_reads_drains_on_a_notice_and_ends(run: Callable[..., Running], tmp_path: Path) -> None:
    (tmp_path / "ready").touch()
    read, write = os.pipe()
    os.close(read)
    try:
        runner = run(output=write)
    finally:
        os.close(write)
    runner.until(lambda status: status.phase == "ready")
    runner.notice("interruption", 60.0)
    runner.until(lambda status: status.phase == "drained")
    assert runner.end() == 0


def test_what_was_killed_with_the_runner_is_only_its_replica(run: Callable[..., Running]) -> None:
    runner = run("exec sleep 600")
    wait_until("it has a replica", lambda: bool(runner.below()))
    below = runner.below()
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            os.kill(runner.process.pid, signal.SIGKILL)
            runner.process.wait(LIMIT_S)
            wait_until("the replica is gone", lambda: not any(is_alive(process.pid) for process in below))
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_status_is_json_with_the_contracts_names(run: Callable[..., Running]) -> None:
    told = json.loads(run("exec sleep 600").http.get("/status").content)
    assert set(told) == set(Status.__struct_fields__)
