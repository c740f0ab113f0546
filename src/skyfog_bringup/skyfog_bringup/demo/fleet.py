"""The demo's processes: `ros2 launch skyfog_bringup demo.launch.py`, faults into its replicas, and an end without rest.

launch is a child in a session of its own, so that Ctrl-C on the terminal reaches the demo alone, which then ends
launch, which ends the nodes. What is left after that is killed. If the demo itself is killed, the kernel tells launch.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from skyfog_bringup.demo.schedule import FaultKind
from skyfog_core import shm
from skyfog_core.config.demo import DemoConfig
from skyfog_core.errors import SkyfogError
from skyfog_core.ports import claim_domain

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
INT_LIMIT_S = 8.0  # launch passes on SIGINT, and from its limits on SIGTERM and SIGKILL
TERM_LIMIT_S = 2.0
NOTE_SHM_EVERY_S = 1.0
TAIL_LINES = 15

STARTED = re.compile(r"\[([\w.-]+)-\d+\]: process started with pid \[(\d+)\]")
ENDED = re.compile(r"\[([\w.-]+)-\d+\]: process has (?:died|finished cleanly) \[pid (\d+)(?:, exit code (-?\d+))?")
OUTPUT = re.compile(r"\[([\w.-]+)-\d+\] (.*)")


class FleetError(SkyfogError):
    """The demo's processes do not run as they should; the message holds the end of the log at fault."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that is no more. `status` is negative for a signal, 0 for an end in order."""

    name: str
    pid: int
    status: int


def started_in(log: str) -> dict[str, int]:
    """The processes that launch says it started: name -> pid."""
    return {name: int(pid) for name, pid in STARTED.findall(log)}


def ended_in(log: str) -> list[Ended]:
    """The processes that launch says have ended."""
    return [Ended(name, int(pid), int(status or 0)) for name, pid, status in ENDED.findall(log)]


def output_by_process(log: str) -> dict[str, list[str]]:
    """What each process printed, out of launch's own output; launch's own lines under "launch"."""
    parts: dict[str, list[str]] = {}
    for line in log.splitlines():
        match = OUTPUT.match(line)
        name, text = (match[1], match[2]) if match else ("launch", line)
        parts.setdefault(name, []).append(text)
    return parts


class Fleet:
    """Robot, camera and replicas as processes. Use as a context: leaving it ends them all."""

    def __init__(self, config: DemoConfig, logs: Path) -> None:
        self._config = config
        self._logs = logs
        self.trace = logs / "robot_trace.jsonl"
        self.record = logs / "camera_record.jsonl"
        self._launch_log = logs / "launch.log"
        self._launch: subprocess.Popen[bytes] | None = None
        self._faulty: dict[str, FaultKind] = {}
        self._shm: set[Path] = set()
        self._shm_seen_s = 0.0
        self.domain = _domain()
        self._scratch = logs / "tmp"

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start launch. Raises FleetError where there is no ros2 command."""
        ros2 = shutil.which("ros2")
        if ros2 is None:
            raise FleetError("the ros2 command is not on PATH: source install/setup.bash, or use ./ws run skyfog demo")
        config = self._config
        arguments = {
            "replicas": config.replicas,
            "rate": config.rate,
            "image": Path(config.image).expanduser().resolve() if config.image else "",
            "seed": config.seed,
            "trace": self.trace.resolve(),
            "record": self.record.resolve(),
        }
        self._scratch.mkdir(exist_ok=True)
        words = [f"{name}:={value}" for name, value in arguments.items() if value != ""]
        with self._launch_log.open("wb") as log:
            self._launch = subprocess.Popen(
                [ros2, "launch", "--noninteractive", "skyfog_bringup", "demo.launch.py", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # before this process has any thread
            )

    def name_of(self, index: int) -> str:
        """The process name, as in the log, of a replica."""
        return f"replica_{index}"

    def inject(self, kind: FaultKind, index: int) -> int:
        """Kill or freeze a replica. Returns when, in nanoseconds of the steady clock. Raises FleetError without it."""
        name = self.name_of(index)
        pid = started_in(self._log())[name]
        self._note_shm()
        self._faulty[name] = kind
        t_ns = time.monotonic_ns()
        try:
            psutil.Process(pid).send_signal(signal.Signals[kind.value])
        except psutil.NoSuchProcess:
            raise FleetError(f"{name} is not there to be {kind.done}:\n{self.tail(name)}") from None
        return t_ns

    def check(self) -> None:
        """Raise FleetError if a process ended that should run, with the end of its log."""
        log = self._log()
        for ended in ended_in(log):
            if ended.name not in self._faulty:
                raise FleetError(f"{ended.name} ended with status {ended.status}:\n{self.tail(ended.name)}")
        if self._launch is not None and (status := self._launch.poll()) is not None:
            raise FleetError(f"ros2 launch ended with status {status}:\n{self.tail('launch')}")
        if time.monotonic() - self._shm_seen_s > NOTE_SHM_EVERY_S:
            self._note_shm()

    def tail(self, name: str) -> str:
        """The last lines that a process printed, indented."""
        lines = output_by_process(self._log()).get(name, [])[-TAIL_LINES:] or ["(it printed nothing)"]
        return "\n".join(f"    {line}" for line in lines)

    def stop(self) -> None:
        """End every process, in order where possible, and remove what they leave behind. Bounded, idempotent."""
        if self._launch is not None:
            self._note_shm()
            self._signal(signal.SIGCONT)  # a frozen process hears of no other signal
            with contextlib.suppress(ProcessLookupError):
                self._launch.send_signal(signal.SIGINT)
            for number, limit_s in ((signal.SIGTERM, INT_LIMIT_S), (signal.SIGKILL, TERM_LIMIT_S)):
                if not self._gone(limit_s):
                    self._signal(number)
            self._gone(TERM_LIMIT_S)
            self._launch = None
            self._split_log()
        shm.remove_unused(self._shm)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _log(self) -> str:
        return self._launch_log.read_text(errors="replace") if self._launch_log.exists() else ""

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "ROS_DOMAIN_ID": str(self.domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(self._scratch.resolve()),  # the same lines as in our logs, in files named by pid
            "RCUTILS_COLORIZED_OUTPUT": "0",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self._scratch.resolve()),  # launch leaves its parameter files there
        }

    def _processes(self) -> list[psutil.Process]:
        """Every living process of launch's session."""
        assert self._launch is not None
        self._launch.poll()  # reaps it
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == self._launch.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _note_shm(self) -> None:
        for process in self._processes():
            self._shm |= shm.used_by(process.pid)
        self._shm_seen_s = time.monotonic()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def _gone(self, limit_s: float) -> bool:
        limit = time.monotonic() + limit_s
        while there := bool(self._processes()):
            if time.monotonic() > limit:
                break
            time.sleep(0.05)
        return not there

    def _split_log(self) -> None:
        for name, lines in output_by_process(self._log()).items():
            if name != "launch":
                (self._logs / f"{name}.log").write_text("\n".join(lines) + "\n")


def _domain() -> int:
    given = os.environ.get("ROS_DOMAIN_ID", "")
    try:
        return int(given) if given else claim_domain()
    except (ValueError, OSError) as error:
        raise FleetError(f"ROS_DOMAIN_ID: {error}") from None


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)  # on SIGTERM launch would leave the nodes behind
