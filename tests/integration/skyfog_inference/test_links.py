"""Copies between RAM and files: what arrives, and what is said where it cannot."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from skyfog_inference.link.direct import DirectLink
from skyfog_inference.link.thread import ThreadLink
from skyfog_inference.tier import Span, TierFull
from skyfog_inference.tiers.disk import SECTOR, DiskTier
from skyfog_inference.tiers.memory import RamTier

SIZE = 40 * SECTOR


@pytest.fixture
def ram() -> Iterator[RamTier]:
    tier = RamTier("ram", 4 * SIZE)
    yield tier
    tier.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(_drawn(2 * SIZE))
    return path


def _drawn(size: int) -> bytes:
    return (
        torch.randint(0, 256, (size,), generator=torch.Generator().manual_seed(1), dtype=torch.uint8).numpy().tobytes()
    )


def _read(disk: DiskTier, ram: RamTier, at: int = SECTOR, size: int = SIZE) -> bytes:
    link = DirectLink(disk, ram, piece_bytes=3 * SECTOR)
    span = ram.allocate(size)
    try:
        link.copy(Span(disk, at, size), span).wait()
        return ram.bytes(span).numpy().tobytes()
    finally:
        link.close()
        ram.free(span)


@pytest.mark.parametrize("direct", [True, False])
def test_what_is_read_is_what_the_file_holds(ram: RamTier, file: Path, direct: bool) -> None:
    disk = DiskTier(file, direct=direct)
    assert _read(disk, ram) == file.read_bytes()[SECTOR : SECTOR + SIZE]
    disk.close()


def test_copies_end_in_order_and_each_has_its_own(ram: RamTier, file: Path) -> None:
    disk = DiskTier(file)
    link = DirectLink(disk, ram, piece_bytes=SECTOR)
    spans = [ram.allocate(SECTOR * (1 + n)) for n in range(8)]
    tickets = [link.copy(Span(disk, n * SECTOR, span.size), span) for n, span in enumerate(spans)]
    whole = file.read_bytes()
    for n, (span, ticket) in enumerate(zip(spans, tickets, strict=True)):
        ticket.wait()
        assert ticket.done
        assert ram.bytes(span).numpy().tobytes() == whole[n * SECTOR : n * SECTOR + span.size]
    link.close()
    disk.close()


def test_a_file_that_ends_early_is_an_error_with_name_and_offset(ram: RamTier, file: Path) -> None:
    disk = DiskTier(file)
    os.truncate(file, SECTOR + SIZE // 2 + 100)
    link = DirectLink(disk, ram)
    ticket = link.copy(Span(disk, SECTOR, SIZE), ram.allocate(SIZE))
    for _ in range(2):  # a second wait says the same
        with pytest.raises(OSError, match=r"reading at byte \d+: the file ends") as caught:
            ticket.wait()
        assert caught.value.filename == str(file)
    whole = link.copy(Span(disk, 0, SECTOR), ram.allocate(SECTOR))
    whole.wait()  # the next copy is not hurt
    link.close()
    disk.close()


def test_a_broken_disk_is_an_error_of_that_copy(ram: RamTier, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_fd: int, _buffers: object, _offset: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    disk = DiskTier(file)
    with pytest.raises(OSError, match=f"reading at byte {SECTOR}") as caught:
        _read(disk, ram)
    assert caught.value.errno == errno.EIO
    disk.close()


@pytest.mark.parametrize("when", ["at opening", "at the transfer"])
def test_without_direct_io_the_cache_is_used_and_that_is_said_once(
    ram: RamTier, file: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    opened, read = os.open, os.preadv

    def refusing_open(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, mode)

    def refusing_read(fd: int, buffers: list[memoryview], offset: int) -> int:
        if os.get_blocking(fd) and _flags(fd) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return read(fd, buffers, offset)

    monkeypatch.setattr(*((os, "open", refusing_open) if when == "at opening" else (os, "preadv", refusing_read)))
    with capture_logs() as logs:
        disk = DiskTier(file)
        assert _read(disk, ram) == file.read_bytes()[SECTOR : SECTOR + SIZE]
    assert [entry["event"] for entry in logs] == ["no_direct_io"]
    assert not disk.direct
    disk.close()


def _flags(fd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    return int(text.split("flags:")[1].split()[0], 8)


def test_what_was_written_can_be_read_back(ram: RamTier, tmp_path: Path) -> None:
    disk = DiskTier(tmp_path / "paged", capacity=4 * SIZE)
    there, back = ram.allocate(SIZE), ram.allocate(SIZE)
    ram.bytes(there).copy_(torch.frombuffer(bytearray(_drawn(SIZE)), dtype=torch.uint8))
    span = disk.allocate(SIZE)
    out, into = DirectLink(ram, disk), DirectLink(disk, ram)
    out.copy(there, span).wait()
    into.copy(span, back).wait()
    assert torch.equal(ram.bytes(there), ram.bytes(back))
    out.close()
    into.close()
    disk.close()
    assert not (tmp_path / "paged").exists()


def test_a_full_disk_fails_that_copy_alone(ram: RamTier, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    disk = DiskTier(full, capacity=2 * SIZE, direct=False)
    link = DirectLink(ram, disk)
    ticket = link.copy(ram.allocate(SIZE), Span(disk, 0, SIZE))
    with pytest.raises(OSError, match="writing at byte 0: No space left") as caught:
        ticket.wait()
    assert caught.value.errno == errno.ENOSPC
    link.close()
    disk.close()


def test_a_disk_without_room_refuses_the_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_fd: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    disk = DiskTier(tmp_path / "paged", capacity=SIZE)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(TierFull, match="the disk has no room"):
        disk.allocate(SECTOR)
    monkeypatch.undo()
    assert disk.used == 0
    disk.free(disk.allocate(SIZE))
    disk.check()
    disk.close()


def test_copies_that_were_not_begun_are_dropped_at_the_end(
    ram: RamTier, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, read = threading.Event(), threading.Event(), os.preadv

    def slow(fd: int, buffers: list[memoryview], offset: int) -> int:
        begun.set()
        assert go_on.wait(10)
        return read(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", slow)
    disk = DiskTier(file)
    link = DirectLink(disk, ram, in_flight=1)
    first, second = (link.copy(Span(disk, 0, SIZE), ram.allocate(SIZE)) for _ in range(2))
    assert begun.wait(10)
    closing = threading.Thread(target=link.close)
    closing.start()
    assert link._workers._closed.wait(10)
    go_on.set()
    closing.join(10)
    first.wait()
    with pytest.raises(OSError, match="closed before the copy"):
        second.wait()
    with pytest.raises(ValueError, match="closed"):
        link.copy(Span(disk, 0, SECTOR), ram.allocate(SECTOR))
    disk.close()


def test_wrong_spans_are_refused(ram: RamTier, file: Path) -> None:
    disk = DiskTier(file)
    link, span = DirectLink(disk, ram), ram.allocate(SIZE)
    for source, target, said in (
        (Span(disk, 0, SECTOR), span, "bytes to"),
        (Span(disk, 100, SIZE), span, "multiples of 4096"),
        (span, span, "a link from"),
    ):
        with pytest.raises(ValueError, match=said):
            link.copy(source, target)
    with pytest.raises(TypeError, match="one of them should be a file"):
        DirectLink(ram, ram)
    link.close()
    disk.close()


def test_ram_to_ram_by_a_thread(ram: RamTier) -> None:
    other = RamTier("other", SIZE)
    source, target = ram.allocate(SIZE), other.allocate(SIZE)
    ram.bytes(source).fill_(7)
    link = ThreadLink(ram, other)
    link.copy(source, target).wait()
    assert int(other.bytes(target).sum()) == 7 * SIZE
    link.close()
    other.close()
    with pytest.raises(ValueError, match="other is closed"):
        other.bytes(target)


def test_memory_stays_as_long_as_a_tensor_looks_into_it() -> None:
    ram = RamTier("ram", SIZE)
    held = ram.bytes(ram.allocate(SIZE)).fill_(7)
    ram.close()
    assert not ram._map.closed  # else what follows reads memory that is gone
    assert int(held.sum()) == 7 * SIZE
    alone = RamTier("ram", SIZE)
    alone.close()
    assert alone._map.closed


def test_nothing_is_left_behind(file: Path) -> None:
    def held() -> Counter[object]:
        """What descriptors are of, and threads."""
        found = Counter[object](threading.enumerate())
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the one by which we look
                found[descriptor.readlink()] += 1
        return found

    before = held()
    for _ in range(3):
        ram, disk = RamTier("ram", SIZE), DiskTier(file)
        link = DirectLink(disk, ram)
        link.copy(Span(disk, 0, SIZE), ram.allocate(SIZE)).wait()
        for part in (link, disk, ram, link, disk, ram):  # twice is once
            part.close()
    assert not held() - before  # what earlier tests have left may go meanwhile
