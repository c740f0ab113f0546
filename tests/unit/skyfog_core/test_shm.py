"""Shared memory that a killed process leaves behind."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from skyfog_core import shm


@pytest.fixture
def segment() -> Path:
    return shm.SHM / f"fastrtps_of_a_test_{os.getpid()}"


def test_what_is_in_use_is_seen_and_stays(segment: Path) -> None:
    segment.write_bytes(bytes(4096))
    try:
        with segment.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
            assert segment in shm.used_by(os.getpid())
            assert shm.remove_unused({segment}) == []
        assert segment not in shm.used_by(os.getpid())
        assert shm.remove_unused({segment}) == [segment]
        assert not segment.exists()
    finally:
        segment.unlink(missing_ok=True)


def test_files_of_others_are_not_ours(segment: Path) -> None:
    other = segment.with_name(f"lttng-ust-of-a-test-{os.getpid()}")
    other.touch()
    try:
        with other.open("rb"):
            assert other not in shm.used_by(os.getpid())
    finally:
        other.unlink()


def test_a_process_that_is_gone_uses_nothing() -> None:
    assert shm.used_by(2**22 + 1) == set()
