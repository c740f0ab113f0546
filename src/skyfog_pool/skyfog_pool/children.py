"""Child processes of which none is left behind, whoever is killed first."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import psutil

from skyfog_core import shm

PR_SET_CHILD_SUBREAPER = 36  # <sys/prctl.h>
POLL_S = 0.02

# What to put before a command so that the kernel kills it when its parent ends, in whatever way. It must be started by
# the parent's main thread: the kernel watches the thread. setpriv is in util-linux: on every Debian and Ubuntu.
ENDS_WITH_US = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def import_path() -> str:
    """PYTHONPATH by which a child imports what we do, without what each Python finds by itself."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(
        entry
        for entry in sys.path
        if entry and (entry in given or not entry.startswith((sys.prefix + os.sep, sys.base_prefix + os.sep)))
    )


def adopt_orphans() -> None:
    """From now on processes below us whose parent has ended become our children, so that `kill_below` finds them."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(known: subprocess.Popen[bytes] | None) -> None:
    """Take the status of adopted children that have ended; `known` keeps its own."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if known is not None and ended.si_pid == known.pid:
            known.poll()
        else:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(ended.si_pid, os.WNOHANG)


def on_exit(child: subprocess.Popen[bytes], call: Callable[[int], None]) -> None:
    """Call with its exit status, minus the signal that killed it, from the running event loop."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(child.pid)

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        call(child.wait())

    loop.add_reader(descriptor, ended)


def signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To a child that leads a group, and all of the group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def below(pid: int) -> list[psutil.Process]:
    """All that descend from a process."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def marked(name: str, folder: str) -> list[psutil.Process]:
    """Processes in whose environment `name` is a folder or stands below it, except this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and f"{process.environ().get(name, '')}/".startswith(f"{folder}/"):
                found.append(process)
    return found


def kill(find: Callable[[], Iterable[psutil.Process]], limit_s: float) -> bool:
    """SIGKILL to those found until none is, and their shared memory with them. Returns whether none is left."""
    until = time.monotonic() + limit_s
    segments = set()
    try:
        while True:
            left = [process for process in find() if _runs(process)]
            if not left:
                return True
            for process in left:  # all before the first is killed: what waits for it may end at once
                segments |= shm.used_by(process.pid)
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)
    finally:
        shm.remove_unused(segments)


def kill_below(limit_s: float, known: subprocess.Popen[bytes] | None = None) -> bool:
    """`kill` for all that descend from us, adopted ones too."""

    def found() -> list[psutil.Process]:
        reap(known)
        return below(os.getpid())

    return kill(found, limit_s)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
