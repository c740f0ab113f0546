"""A library that does not go together with ours, in a process of its own: asked by JSON lines (lines.py).

The process starts with the first question and again after it died. Importing such a library takes seconds, and a call
into it may hang for ever: here it costs a thread of that process, and the process where nothing else answers either.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import skyfog_pool
from skyfog_pool.provider.base import Misconfigured, Unavailable

END_LIMIT_S = 5.0
MOST_WAITING = 64
TRIES = 2
TAIL_LINES = 5
# A shell for ROS, or another environment, leads its Python to packages that are not its own.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")

Answer = dict[str, Any]


class ProgramError(Exception):
    """The library raised; `kinds` are the names of its class and of the classes above it."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["message"])
        self.kinds: list[str] = error["kinds"]
        self.causes: list[str] = error["causes"]


class _Process:
    """One run of the program: who waits for which answer."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self.waiting: dict[int, queue.SimpleQueue[Answer]] = {}
        self.ready = threading.Event()
        self.began_s = time.monotonic()
        self.ended = threading.Event()
        self.heard = 0  # answers so far
        self._lock = threading.Lock()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._popen = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us: calls under way are finished or given up by us
        )
        self._threads = [
            threading.Thread(target=self._listen, args=(self._popen.stdout,), daemon=True),
            threading.Thread(target=self._remember, args=(self._popen.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def send(self, request: Mapping[str, object], answer: queue.SimpleQueue[Answer]) -> bool:
        """False where it has ended, so that the request certainly did not reach it."""
        number = int(str(request["id"]))
        with self._lock:
            if self.ended.is_set():
                return False
            if len(self.waiting) >= MOST_WAITING:
                raise Unavailable(f"{MOST_WAITING} calls wait for an answer already")
            self.waiting[number] = answer
            try:
                assert self._popen.stdin is not None
                self._popen.stdin.write(json.dumps(request) + "\n")
                self._popen.stdin.flush()
            except OSError:
                del self.waiting[number]
                return False
        return True

    def forget(self, number: int) -> None:
        with self._lock:
            self.waiting.pop(number, None)

    def end(self) -> None:
        """End it, with what it started and did not detach."""
        with contextlib.suppress(OSError):
            assert self._popen.stdin is not None
            self._popen.stdin.close()
        try:
            self._popen.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._popen.wait()
        for thread in self._threads:
            thread.join(END_LIMIT_S)

    def kill(self) -> None:
        self._kill()
        self.ended.wait(END_LIMIT_S)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)  # what daemons it started have left the group

    @property
    def tail(self) -> str:
        """The newest of what it printed."""
        return " | ".join(list(self._tail)) or "it printed nothing"

    @property
    def last_words(self) -> str:
        return f"its process ended: {self.tail}"

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            answer = json.loads(line)
            self.heard += 1
            if "ready" in answer:
                self.ready.set()
                continue
            with self._lock:
                waiting = self.waiting.pop(answer["id"], None)
            if waiting is not None:
                waiting.put(answer)
        self._popen.wait()
        self._threads[1].join(END_LIMIT_S)  # its last words
        with self._lock:
            self.ended.set()
            left = list(self.waiting.values())
            self.waiting.clear()
        self.ready.set()
        for waiting in left:
            waiting.put({"ended": self.last_words})
        lines.close()
        with contextlib.suppress(OSError):
            assert self._popen.stdin is not None
            self._popen.stdin.close()

    def _remember(self, lines: IO[str]) -> None:
        for line in lines:
            if line.strip():
                self._tail.append(line.strip()[:500])
        lines.close()


class Program:
    """The near end. Several threads may ask at once."""

    def __init__(
        self,
        name: str,
        python: Path,
        module: str,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        start_limit_s: float = 120.0,
    ) -> None:
        """`name` stands in errors; `environment` is added to ours. `start_limit_s`: until the library is imported."""
        self.name = name
        inherited = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
        found_in = str(Path(skyfog_pool.__file__).parents[1])
        self._environment = {**inherited, "PYTHONPATH": found_in, **(environment or {})}
        # -P: not the folder it is started in, where a file may be called as the library is.
        self._command = [str(python), "-P", "-m", module, *arguments]
        self._start_limit_s = start_limit_s
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._was_ready = False

    def ask(self, do: str, limit_s: float, **arguments: object) -> Any:
        """The answer. Raises ProgramError as the library did; Unavailable where none comes within `limit_s`."""
        number, answers = next(self._numbers), queue.SimpleQueue[Answer]()
        request = {"id": number, "do": do, "with": arguments}
        process, heard = self._running(limit_s), 0
        for _ in range(TRIES):
            heard = process.heard
            if process.send(request, answers):
                break
            process.ended.wait(END_LIMIT_S)
            process = self._running(limit_s)  # it has just died: nothing was asked yet
        else:
            raise Unavailable(f"{self.name}: {do}: {process.last_words}")
        try:
            answer = answers.get(timeout=limit_s)
        except queue.Empty:
            process.forget(number)
            if process.heard == heard:
                process.kill()  # all of it hangs: the next question starts it anew
            raise Unavailable(f"{self.name}: {do}: no answer within {limit_s:g} s") from None
        if "ended" in answer:
            raise Unavailable(f"{self.name}: {do}: {answer['ended']}")
        if "error" in answer:
            raise ProgramError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the process; another question would start it anew. It ends with ours in any case."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.end()

    def _running(self, limit_s: float) -> _Process:
        with self._lock:
            if self._process is None or self._process.ended.is_set():
                try:
                    self._process = _Process(self._command, self._environment)
                except OSError as error:
                    raise Misconfigured(f"{self.name}: {self._command[0]} does not run: {error.strerror}") from None
            process, first = self._process, not self._was_ready
        # The first start may take its time; later, it counts as part of the call.
        if not process.ready.wait(self._start_limit_s if first else min(limit_s, self._start_limit_s)):
            if time.monotonic() - process.began_s >= self._start_limit_s:
                process.kill()
            raise Unavailable(f"{self.name}: does not start: {process.tail}")
        if process.ended.is_set() and process.heard == 0:
            if first:
                raise Misconfigured(f"{self.name}: {process.last_words}")
            raise Unavailable(f"{self.name}: {process.last_words}")
        self._was_ready = True
        return process
