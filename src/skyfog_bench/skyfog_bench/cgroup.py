"""A memory limit for one running process, under which the kernel kills it: cgroup v1 or v2, below our own group."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from skyfog_bench.processes import BenchError

ROOT = Path("/sys/fs/cgroup")
REMOVE_LIMIT_S = 5.0
RETRY_S = 0.05


class MemoryCap:
    """The limit of one process, until it is removed."""

    def __init__(self, pid: int, limit_bytes: int) -> None:
        """Raises BenchError that says why where this machine does not permit it."""
        parent, limit = _place()
        self._folder = parent / f"skyfog_bench_{pid}"
        try:
            self._folder.mkdir()
            (self._folder / limit).write_text(str(limit_bytes))
            (self._folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._folder.rmdir()
            raise BenchError(f"no memory limit for a process: {error}") from None

    def peak_bytes(self) -> int:
        """The most that the group held at a time, cached files included; 0 where the kernel does not say."""
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            with contextlib.suppress(OSError):
                return int((self._folder / name).read_text())
        return 0

    def remove(self) -> None:
        """Remove the group of a process that has ended, or is about to."""
        until = time.monotonic() + REMOVE_LIMIT_S
        while self._folder.exists() and time.monotonic() < until:
            try:
                self._folder.rmdir()
            except OSError:  # its process has not quite gone
                time.sleep(RETRY_S)


def _place() -> tuple[Path, str]:
    """The folder of our own memory group, and the name of its limit."""
    groups = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    v1 = ROOT / "memory"
    if v1.is_dir() and "memory" in groups:
        return v1 / groups["memory"].lstrip("/"), "memory.limit_in_bytes"
    v2 = ROOT / groups.get("", "/").lstrip("/")
    if os.access(v2 / "cgroup.subtree_control", os.W_OK) and "memory" in (v2 / "cgroup.subtree_control").read_text():
        return v2, "memory.max"
    raise BenchError("no memory limit for a process: no cgroup here whose memory may be limited")
