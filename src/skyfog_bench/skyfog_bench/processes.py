"""Processes of a benchmark: started together, watched while waiting, and all ended, whatever happens.

Each has a session of its own, so that a Ctrl-C on the terminal reaches the benchmark alone and it can end them in
order. What is killed leaves its shared memory behind: segments that ours had mapped and nobody maps any more go too.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from skyfog_core import shm
from skyfog_core.errors import SkyfogError
from skyfog_pool.children import ENDS_WITH_US

END_LIMIT_S = 6.0
POLL_S = 0.05
TAIL_LINES = 15


class BenchError(SkyfogError):
    """A process did not do its part; the message names it and ends with the tail of its log."""


class Process:
    """One started process and its log."""

    def __init__(self, name: str, popen: subprocess.Popen[str], log: Path) -> None:
        self.name = name
        self._popen = popen
        self._log = log
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, name=f"read-{name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """Its exit status, minus the signal that killed it; None while it runs."""
        return self._popen.poll()

    def alive(self) -> bool:
        return self.status is None

    def send(self, **command: Any) -> None:
        """Give a command, one line of JSON on its standard input. Raises BenchError if it has ended."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps(command) + "\n")
            self._popen.stdin.flush()
        except OSError as error:
            raise self.fault(f"takes no commands: {error}") from None

    def receive(self, limit_s: float) -> Any:
        """Its next answer. Raises BenchError when it ends, says that it cannot, or takes longer than `limit_s`."""
        until = time.monotonic() + limit_s
        while True:
            try:
                answer = json.loads(self._lines.get(timeout=POLL_S))
            except queue.Empty:
                self.must_live()
                if time.monotonic() > until:
                    raise self.fault(f"gave no answer within {limit_s:.0f} s") from None
                continue
            if "error" in answer:
                raise self.fault(answer["error"])
            return answer

    def ask(self, limit_s: float, /, **command: Any) -> Any:
        """`send` and `receive`."""
        self.send(**command)
        return self.receive(limit_s)

    def must_live(self) -> None:
        """Raises BenchError if it has ended."""
        if not self.alive():
            raise self.fault(f"ended with status {self._popen.returncode}")

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def fault(self, what: str) -> BenchError:
        """An error about this process, with the tail of its log."""
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return BenchError(f"{self.name}: {what}\n" + "\n".join(f"    {line}" for line in lines))

    def wait(self, limit_s: float) -> bool:
        """Whether it ended within `limit_s`."""
        try:
            self._popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def segments(self) -> set[Path]:
        """Shared-memory files that it maps now."""
        return shm.used_by(self.pid)

    def release(self) -> None:
        """Let go of its pipes."""
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with contextlib.suppress(ValueError, OSError):  # closed at the end
            for line in self._popen.stdout:
                if line.startswith("{"):
                    self._lines.put(line)


class Processes:
    """All processes of one benchmark, and the folder for their files. A context manager: leaving it ends them."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._folder = tempfile.TemporaryDirectory(prefix="skyfog_bench_")
        self._started: list[Process] = []
        self._segments: set[Path] = set()

    @property
    def folder(self) -> Path:
        """For parameter files, logs and traces; removed at the end."""
        return Path(self._folder.name)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(self._started)
        shm.remove_unused(self._segments)
        self._folder.cleanup()

    def start(self, name: str, module: str, *words: str, domain: int, inside: Sequence[str] = ()) -> Process:
        """`python -m module words…` in a ROS domain. `inside`: words before it, such as netem's Network.inside gives.

        Processes of one name share a log. Where the system can, it ends with us even when we are killed.
        """
        return self._start(name, [*inside, sys.executable, "-m", module, *words], domain)

    def start_script(self, name: str, python: Path, script: Path) -> Process:
        """A script by the Python of another environment, without ROS."""
        return self._start(name, [str(python), str(script)], domain=0)

    def _start(self, name: str, words: Sequence[str], domain: int) -> Process:
        log = self.folder / f"{name}.log"
        with log.open("a") as stderr:
            popen = subprocess.Popen(
                [*ENDS_WITH_US, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | self._environment | {"ROS_DOMAIN_ID": str(domain)},
                cwd=self.folder,
                text=True,
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self._started.append(process)
        return process

    def living(self) -> list[Process]:
        """Those that have not ended."""
        return [process for process in self._started if process.alive()]

    def wait_until(self, ready: Callable[[], bool], process: Process, what: str, limit_s: float) -> None:
        """Wait for a condition. Raises BenchError naming `process` when it ends or `limit_s` is over."""
        until = time.monotonic() + limit_s
        while not ready():
            process.must_live()
            if time.monotonic() > until:
                raise process.fault(f"{what}: not within {limit_s:.0f} s")
            time.sleep(POLL_S)

    def kill(self, process: Process) -> None:
        """SIGKILL, as a machine that vanishes."""
        self._segments |= process.segments()
        process.signal(signal.SIGKILL)

    def end(self, processes: list[Process]) -> None:
        """SIGTERM to all, SIGKILL to those that are still there after END_LIMIT_S. Frozen ones are woken first."""
        for process in processes:
            self._segments |= process.segments()
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGTERM)
        until = time.monotonic() + END_LIMIT_S
        for process in processes:
            if not process.wait(max(0.0, until - time.monotonic())):
                process.signal(signal.SIGKILL)
                process.wait(END_LIMIT_S)
            process.release()
