"""Real processes for tests: started with a log, always ended, every wait with a limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

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
    """One child process with its output in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("w") as out:
            self.popen = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **env})

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
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
        """SIGTERM (thawed first), then SIGKILL. Returns the exit status."""
        if self.popen.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait(END_LIMIT_S)


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
