"""Shared memory that a killed process leaves behind: ROS 2 and zenoh remove theirs only when they end in order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

LOCKS = ("{}_el", "{}_sl", "sem.{}_mutex")  # which Fast DDS leaves beside a segment
SHM = Path("/dev/shm")  # noqa: S108  # where Linux keeps shared memory


def used_by(pid: int) -> set[Path]:
    """The middleware's files that a process maps or holds open; nothing where it cannot be asked."""
    found: set[Path] = set()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            name = line.partition(f"{SHM}/")[2]
            if name:
                found.add(SHM / name.removesuffix(" (deleted)"))
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = descriptor.readlink()
                if target.parent == SHM:
                    found.add(target)
    return {file for file in found if file.match("fastrtps_*") or file.match("sem.fastrtps_*") or file.match("*.zenoh")}


def remove_unused(files: Iterable[Path]) -> list[Path]:
    """Remove those of `files` that still exist and that no process uses. Returns what was removed."""
    left = {file for file in files if file.exists()}
    if left:
        for process in Path("/proc").glob("[0-9]*"):
            left -= used_by(int(process.name))
    for file in left:
        for name in (file.name, *(part.format(file.name) for part in LOCKS)):
            (SHM / name).unlink(missing_ok=True)
    return sorted(left)
