"""Measures a machine for the roofline model: section `machine` of the file that `skyfog infer profile` writes.

Rates are the best of a few repeats: a roof is what is attainable, and a neighbour on the machine only lowers it. With
CUDA the device is the GPU and the host its CPU; without, the device is the cores with their RAM and the host the disk
under a given folder, which computes nothing. Section `rates` has every figure, `machine` what follows from them.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skyfog_core.clock import Clock
from skyfog_core.errors import ConfigError
from skyfog_core.units import S
from skyfog_inference.cost.hrm import Level, Machine, machine_document
from skyfog_inference.link.direct import DirectLink
from skyfog_inference.tiers.disk import DiskTier
from skyfog_inference.tiers.memory import RamTier

MB = 1_000_000
SAMPLE = 64 << 20  # bytes that are written again and again to make the file that is read


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: the larger, the nearer to the roof."""

    side: int = 2_048  # of the matrices
    memory: int = 512 << 20  # bytes; more than any cache holds
    disk: int = 1 << 30  # bytes of the file
    repeats: int = 5


QUICK = Extent(side=1_024, memory=256 << 20, disk=256 << 20, repeats=2)


@dataclass(frozen=True, slots=True)
class Rate:
    """One measured figure."""

    name: str
    threads: int  # 0: not a matter of threads
    value: float
    unit: str


def measure(folder: Path, extent: Extent, clock: Clock, say: Callable[[str], None]) -> tuple[Machine, list[Rate]]:
    """Measure this machine; the file for the disk is made in `folder` and removed. Takes all cores for a while.

    Raises ConfigError where the folder cannot take the file.
    """
    rates: list[Rate] = []
    threads = torch.get_num_threads()
    try:
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            say(f"multiplying and reading with {count} of {threads} threads")
            for dtype in (torch.float32, torch.bfloat16):
                flops = _gemm(extent, dtype, torch.device("cpu"), clock)
                rates.append(Rate(f"gemm {_name(dtype)}", count, flops, "FLOP/s"))
            rates.append(Rate("memory read", count, _read(extent, torch.device("cpu"), clock), "B/s"))
            rates.append(Rate("memory copy", count, _copy(extent, clock), "B/s"))
    finally:
        torch.set_num_threads(threads)
    say(f"reading {extent.disk / MB:.0f} MB from {folder}")
    disk, direct = _disk(folder, extent, clock)
    rates.append(Rate("disk read, direct" if direct else "disk read, through the page cache", 0, disk, "B/s"))
    flops, read = (max(rate.value for rate in rates if rate.name.startswith(kind)) for kind in ("gemm", "memory read"))
    cores = Level(f"{threads} threads", flops, read, float(_ram_bytes()))
    if torch.cuda.is_available():
        rates.extend(_cuda(extent, clock))
        found = {rate.name: rate.value for rate in rates}
        properties = torch.cuda.get_device_properties(0)
        gpu = Level(properties.name, found["gpu gemm"], found["gpu memory read"], float(properties.total_memory))
        return Machine(f"{properties.name}, {cpu_name()}", gpu, cores, found["host to gpu"]), rates
    store = Level(f"disk of {folder}", 0.0, disk, float(shutil.disk_usage(folder).free))
    return Machine(cpu_name(), cores, store, disk), rates


def document(machine: Machine, rates: list[Rate]) -> dict[str, Any]:
    """The two sections that are measured here."""
    plain = [{"name": rate.name, "threads": rate.threads, "value": rate.value, "unit": rate.unit} for rate in rates]
    return {"machine": machine_document(machine), "rates": plain}


def write(path: Path, sections: dict[str, Any]) -> None:
    """Put sections into a profile; others that it has stay. Raises ConfigError where it cannot."""
    try:
        there = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(there, dict):
            raise ConfigError(f"{path}: is no profile: should hold a JSON object")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(there | sections, indent=2) + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _best(run: Callable[[], object], repeats: int, clock: Clock, settle: Callable[[], None] = lambda: None) -> float:
    """Seconds of the fastest of some runs, after one that is not counted."""
    run()
    settle()
    fastest = float("inf")
    for _ in range(repeats):
        begun = clock.now_ns()
        run()
        settle()
        fastest = min(fastest, (clock.now_ns() - begun) / S)
    return max(fastest, 1e-9)


def _gemm(extent: Extent, dtype: torch.dtype, device: torch.device, clock: Clock) -> float:
    a, b = (torch.randn(extent.side, extent.side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    seconds = _best(lambda: torch.mm(a, b, out=out), extent.repeats, clock, _settle(device))
    return 2 * extent.side**3 / seconds


def _read(extent: Extent, device: torch.device, clock: Clock) -> float:
    data = torch.ones(extent.memory // 4, device=device)
    return extent.memory / _best(data.sum, extent.repeats, clock, _settle(device))


def _copy(extent: Extent, clock: Clock) -> float:
    """Bytes copied, each of which is read and written."""
    source, target = torch.ones(extent.memory // 4), torch.zeros(extent.memory // 4)
    return extent.memory / _best(lambda: target.copy_(source), extent.repeats, clock)


def _disk(folder: Path, extent: Extent, clock: Clock) -> tuple[float, bool]:
    """Rate of the link that streams weights, and whether it goes past the page cache."""
    try:
        with _file(folder, extent.disk) as path:
            disk, ram = DiskTier(path), RamTier("profile", extent.disk)
            link = DirectLink(disk, ram)
            try:
                source, target = disk.allocate(extent.disk), ram.allocate(extent.disk)
                seconds = _best(lambda: link.copy(source, target).wait(), extent.repeats, clock)
                return extent.disk / seconds, disk.direct
            finally:
                link.close()
                ram.close()
                disk.close()
    except OSError as error:
        raise ConfigError(f"{folder}: the disk cannot be measured: {error}") from None


@contextlib.contextmanager
def _file(folder: Path, size: int) -> Iterator[Path]:
    """A file of random bytes that is on the disk and not in the page cache."""
    sample = os.urandom(min(SAMPLE, size))
    with tempfile.NamedTemporaryFile(dir=folder, prefix="skyfog-profile-") as file:
        for _ in range(size // len(sample)):
            file.write(sample)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        yield Path(file.name)


def _cuda(extent: Extent, clock: Clock) -> Iterator[Rate]:
    """The GPU and its link. Not run here."""
    device = torch.device("cuda")
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    yield Rate("gpu gemm", 0, _gemm(extent, dtype, device, clock), "FLOP/s")
    yield Rate("gpu memory read", 0, _read(extent, device, clock), "B/s")
    on_host = torch.ones(extent.memory // 4, pin_memory=True)
    on_gpu = torch.zeros(extent.memory // 4, device=device)
    for name, target, source in (("host to gpu", on_gpu, on_host), ("gpu to host", on_host, on_gpu)):
        run = lambda target=target, source=source: target.copy_(source, non_blocking=True)  # noqa: E731
        yield Rate(name, 0, extent.memory / _best(run, extent.repeats, clock, torch.cuda.synchronize), "B/s")


def _settle(device: torch.device) -> Callable[[], None]:
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _ram_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpu_name() -> str:
    """Of the processor; the kind of machine where it has no name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
