"""A pool of planning processes: one request each, killed when nobody wants the result or its time is over."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import structlog

from skyfog_core.cancel import Cancellation
from skyfog_core.errors import ConfigError
from skyfog_planning.options import Options
from skyfog_planning.problem import Code, Plan, PlanError, Problem, Progress
from skyfog_planning.robots import read_robot

log = structlog.get_logger()

START_LIMIT_S = 180.0  # a computer with much else to do takes a minute to load all
STOP_LIMIT_S = 5.0
MESSAGE_BYTES = 4_096
# One thread a worker: BLAS makes its threads on import, and a fork would lose them.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Worker:
    """One process that waits for one request."""

    def __init__(self, key: int, link: Connection, zygote: Zygote) -> None:
        self.link = link
        self._key = key
        self._zygote = zygote

    def kill(self) -> None:
        """End it, whatever it does; the link ends then. Any thread, any number of times."""
        self._zygote.kill(self._key)


class Zygote:
    """The process that workers are forked from, seen from outside."""

    def __init__(self, robots: list[str], options: Options) -> None:
        """Start it and wait until it has loaded. Raises ConfigError that says what could not be."""
        self._keys = itertools.count()
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "skyfog_planning.zygote", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env={**os.environ, **ONE_THREAD})
        self._control.settimeout(START_LIMIT_S)
        try:
            self._control.send(pickle.dumps((robots, options)))
            answer = self._control.recv(MESSAGE_BYTES)
        except OSError as error:
            self.close()
            raise ConfigError(f"the planning process did not start: {error}") from None
        problem = pickle.loads(answer) if answer else "the planning process ended while loading"  # noqa: S301 - our own
        if problem is not None:
            self.close()
            raise ConfigError(str(problem))

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        """Whether it can fork."""
        return self._process.poll() is None

    def fork(self) -> Worker:
        """A new worker. Raises OSError where the zygote is gone."""
        ours, theirs = socket.socketpair()
        with ours, theirs, self._lock:
            key = next(self._keys)
            socket.send_fds(self._control, [pickle.dumps(("fork", key))], [theirs.fileno()])
            return Worker(key, Connection(ours.detach()), self)

    def kill(self, key: int) -> None:
        """Kill a worker, if it still runs."""
        with self._lock:
            try:
                self._control.send(pickle.dumps(("kill", key)))
            except OSError:
                log.debug("zygote_gone", key=key)  # and its workers with it

    def close(self) -> None:
        """End it and its workers."""
        self._control.close()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_LIMIT_S)


class Pool:
    """`size` workers, forked ahead of the requests that they take."""

    def __init__(self, size: int, robots: list[str], options: Options, grace_s: float) -> None:
        """Raises ConfigError for robots that cannot be loaded."""
        for robot in robots:
            read_robot(robot)  # the common faults, before a process is started
        self._start = functools.partial(Zygote, robots, options)
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._zygote = self._start()
        self._closed = False
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for _ in range(size):
            self._idle.put(self._zygote.fork())

    @property
    def zygote_pid(self) -> int:
        return self._zygote.pid

    def plan(
        self,
        problem: Problem,
        cancellation: Cancellation | None = None,
        report: Callable[[Progress], None] = lambda _progress: None,
    ) -> Plan:
        """Plan in a worker, waiting for a free one within the problem's budget. Raises PlanError. Any thread."""
        began = time.monotonic()
        try:
            worker = self._idle.get(timeout=problem.budget_s)
        except queue.Empty:
            raise PlanError(Code.NO_PLAN_IN_TIME, f"no worker was free within {problem.budget_s:g} s") from None
        cancellation = cancellation or Cancellation()
        try:
            cancellation.on_cancel(worker.kill)
            answer = self._ask(worker, problem, began + problem.budget_s + self._grace_s, report)
        finally:
            cancellation.forget()
            worker.kill()
            worker.link.close()
            self._replace()
        if isinstance(answer, Plan):
            return answer
        if isinstance(answer, PlanError):
            raise answer
        if cancellation.is_set():
            raise PlanError(Code.WITHDRAWN, "withdrawn while it ran; its worker was killed")
        if answer is None:
            text = f"killed {self._grace_s:g} s beyond its budget of {problem.budget_s:g} s"
            raise PlanError(Code.NO_PLAN_IN_TIME, text)
        raise PlanError(Code.INTERNAL, "the worker ended without an answer")

    def close(self) -> None:
        """End every process of the pool."""
        with self._lock:
            self._closed = True
            self._zygote.close()

    def _ask(self, worker: Worker, problem: Problem, ends: float, report: Callable[[Progress], None]) -> Any:
        """A Plan, a PlanError, None for out of time, or EOFError for a worker that ended."""
        try:
            worker.link.send(problem)
            while worker.link.poll(max(0.0, ends - time.monotonic())):
                heard = worker.link.recv()
                if not isinstance(heard, Progress):
                    return heard
                report(heard)
        except (EOFError, OSError):
            return EOFError
        return None

    def _replace(self) -> None:
        """Fork the next worker; start the zygote again where it died."""
        with self._lock:
            if self._closed:
                return
            try:
                self._idle.put(self._zygote.fork())
            except OSError:
                log.warning("zygote_restarted", alive=self._zygote.alive())
                self._zygote.close()
                self._zygote = self._start()
                self._idle.put(self._zygote.fork())
