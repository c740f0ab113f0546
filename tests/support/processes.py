"""Real processes for tests: started with a log, always ended, every wait with a limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from skyfog_core.shm import remove_unused, used_by

LIMIT_S = 30.0
END_LIMIT_S = 10.0


def wait_until(what: str, holds: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Poll until `holds()`. Raises TimeoutError that says what did not come."""
    end = time.monotonic() + limit_s
    tick = threading.Event()
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {limit_s} s")
        tick.wait(0.02)


class Process:
    """One child process with its output in a file, and a session of its own, of which nothing outlives it."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self.segments: set[Path] = set()  # shared memory that it would leave behind when killed
        with log.open("w") as out:
            self.popen = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **env}, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.segments |= used_by(self.popen.pid)
        self.popen.send_signal(number)

    def wait_for(self, text: str, limit_s: float = LIMIT_S) -> None:
        """Until `text` stands in the output. Raises with the output where it ends or takes too long."""

        def seen() -> bool:
            if text in self.output:
                return True
            if self.popen.poll() is not None and text not in self.output:
                raise RuntimeError(f"{self.name} ended ({self.popen.returncode}) before {text!r}:\n{self.output}")
            return False

        try:
            wait_until(f"{self.name}: {text!r}", seen, limit_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.output}") from None

    def exit_status(self, limit_s: float = LIMIT_S) -> int:
        return self.popen.wait(limit_s)

    def end(self) -> int:
        """SIGTERM (thawed first), then SIGKILL, to all of its session: `ros2 run` leaves what it started behind.

        Returns the exit status.
        """
        if self.popen.poll() is None:
            self.segments |= used_by(self.popen.pid)
            self._signal_all(signal.SIGCONT)
            self._signal_all(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(END_LIMIT_S)
        with contextlib.suppress(TimeoutError):
            wait_until(f"{self.name}: its session", lambda: not self._signal_all(0), END_LIMIT_S)
        self._signal_all(signal.SIGKILL)
        self._signal_all(signal.SIGKILL)
        return self.popen.wait(END_LIMIT_S)

    def left(self) -> list[str]:
        """What of its session still runs."""
        return [
            " ".join(other.cmdline())
            for other in psutil.process_iter()
            if _session(other.pid) == self.popen.pid and other.status() != psutil.STATUS_ZOMBIE
        ]

    def _signal_all(self, number: int) -> bool:
        """Whether anything is left to hear it."""
        try:
            os.killpg(self.popen.pid, number)
        except ProcessLookupError:
            return False
        return True


def living_children(pid: int) -> list[psutil.Process]:
    """Of a process that may end, as they may, while we look."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(pid).children() if is_alive(child.pid)]
    return []


def is_alive(pid: int) -> bool:
    """Whether it runs: what has ended and is not reaped does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


class Processes:
    """Every process of one test; leaving the block ends them all."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._env = dict(env or {})
        self.all: list[Process] = []

    def start(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> Process:
        log = self._folder / f"{len(self.all)}-{name}.log"
        process = Process(name, command, log, {**self._env, **(env or {})})
        self.all.append(process)
        return process

    def python(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        return self.start(name, sys.executable, *arguments, env=env)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for process in reversed(self.all):
            process.end()
        remove_unused(file for process in self.all for file in process.segments)
