"""A process that leaks below a memory limit is killed by the kernel, and the limit's group goes with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from skyfog_bench.cgroup import MemoryCap
from skyfog_bench.processes import BenchError

LIMIT_S = 30.0
LEAK = """
import os, sys
sys.stdin.readline()
kept = []
while True:
    kept.append(os.urandom(1 << 20))
"""


def groups_of(pid: int) -> list[str]:
    """Where groups of ours stand, in a tree whose other groups may go while we look."""
    return [folder for folder, names, _ in os.walk("/sys/fs/cgroup") if f"skyfog_bench_{pid}" in names]


def test_a_leak_ends_in_a_sigkill_and_nothing_is_left() -> None:
    with subprocess.Popen([sys.executable, "-c", LEAK], stdin=subprocess.PIPE) as leaking:
        try:
            cap = MemoryCap(leaking.pid, psutil.Process(leaking.pid).memory_info().rss + (32 << 20))
        except BenchError as error:
            leaking.kill()
            pytest.skip(str(error))
        leaking.communicate(b"\n", timeout=LIMIT_S)
        cap.remove()
        assert leaking.returncode == -signal.SIGKILL
        assert not groups_of(leaking.pid)


def test_a_process_that_is_not_there_cannot_be_limited() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(LIMIT_S)
    with pytest.raises(BenchError, match="no memory limit"):
        MemoryCap(gone.pid, 1 << 30)
    assert not groups_of(gone.pid)
