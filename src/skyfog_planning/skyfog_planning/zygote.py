"""The process that workers are forked from: libraries imported, robots loaded, no thread, no random generator made.

A worker is a fork, plans one request and ends. So each request meets the same memory, OMPL's generators included, which
can be seeded only once a process; a worker can be killed at any moment; and forking takes milliseconds where starting
Python and loading takes a second.

    parent --("fork", key) + socket--> zygote --fork--> worker <--problem, progress, result--> parent (by that socket)
           --("kill", key)----------->        --SIGKILL-->
    parent dies: the control socket ends, the zygote leaves, and the kernel kills its workers (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import select
import signal
import socket
import sys
from multiprocessing.connection import Connection
from typing import Any

from skyfog_core.errors import SkyfogError
from skyfog_planning.anytime import Planner
from skyfog_planning.options import Options
from skyfog_planning.problem import Code, PlanError, Problem, Progress
from skyfog_planning.robots import read_robot

MESSAGE_BYTES = 4_096
REAP_MS = 1_000
PR_SET_PDEATHSIG = 1


def serve(control: socket.socket, robots: list[str], options: Options) -> None:
    """Fork and kill as told, until the other end is gone."""
    try:
        planners = {}
        for name in robots:
            planner = Planner(read_robot(name), options)
            planners[planner.robot.name] = planner
    except SkyfogError as error:
        control.send(pickle.dumps(str(error))[:MESSAGE_BYTES])
        return
    gc.collect()
    gc.freeze()  # the collector leaves what is loaded alone, so that workers share its pages
    control.send(pickle.dumps(None))
    workers: dict[int, int] = {}  # key -> pid
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        ready = poll.poll(REAP_MS)
        _reap(workers)
        if not ready:
            continue
        content, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
        if not content:
            return
        verb, key = pickle.loads(content)  # noqa: S301 - from the process that started this one
        if verb == "fork":
            workers[key] = _fork(control, descriptors[0], planners)
        elif key in workers:
            os.kill(workers[key], signal.SIGKILL)  # not reaped yet, so that the number is still this worker's


def _reap(workers: dict[int, int]) -> None:
    for key, pid in list(workers.items()):
        if os.waitpid(pid, os.WNOHANG)[0]:
            del workers[key]


def _fork(control: socket.socket, descriptor: int, planners: dict[str, Planner]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    status = 1
    try:
        die_with_parent(parent)
        control.close()
        work(Connection(descriptor), planners)
        status = 0
    finally:
        os._exit(status)  # nothing of the zygote's is closed or flushed here


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process with the one that forked it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)


def work(link: Connection, planners: dict[str, Planner]) -> None:
    """Answer one request: any number of Progress, then a Plan or a PlanError."""
    try:
        problem = link.recv()
    except EOFError:
        return  # a worker that was never needed

    def report(progress: Progress) -> None:
        link.send(progress)

    try:
        link.send(_plan(problem, planners, report))
    except OSError:
        return  # nobody listens any more


def _plan(problem: Problem, planners: dict[str, Planner], report: Any) -> Any:
    try:
        planner = planners.get(problem.robot)
        if planner is None:
            known = ", ".join(sorted(planners))
            return PlanError(Code.INVALID, f"robot: {problem.robot!r} is not loaded here (there are: {known})")
        return planner.plan(problem, report)
    except PlanError as error:
        return error
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours must be told, not only die here
        return PlanError(Code.INTERNAL, f"{type(error).__name__}: {error}")


def main() -> None:
    """`python -m skyfog_planning.zygote FD`: the control socket; the first message on it says what to load."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C means the parent, whose end is noticed
    control = socket.socket(fileno=int(sys.argv[1]))
    robots, options = pickle.loads(control.recv(MESSAGE_BYTES))  # noqa: S301 - from the process that started this one
    serve(control, robots, options)
    os._exit(0)  # OMPL's bindings would print what they leaked


if __name__ == "__main__":
    main()
