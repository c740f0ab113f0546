"""Compiles the kernel where a compiler is there. Standard library only: setup.py loads this file by its path.

One shared library for each instruction set, named by the hash of the sources and the flags, so that a
library that is there is the right one. It is looked for in the install tree (`colcon build` puts it there), then in the
user's cache, and else compiled into that. A library appears whole or not at all: any number of processes may build.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "kernel"
SHARE = Path("share/skyfog_inference/kernels")  # below a prefix of the install tree
COMPILE_LIMIT_S = 300
FLAGS = ("-std=gnu++17", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-w")  # -w: GCC 12 warns of its own headers
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma")

# Instruction sets, best first: what the CPU must have (as in /proc/cpuinfo), and the flags that use it.
ISAS: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "avx512bf16": (
        frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "fma"}),
        (*AVX512, "-mavx512bf16"),
    ),
    "avx512": (frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}), AVX512),
    "avx2": (frozenset({"avx2", "fma"}), ("-mavx2", "-mfma")),
    "portable": (frozenset(), ()),
}


class NoKernel(Exception):
    """There is no library and none can be compiled; the message says why."""


def usable_isas() -> list[str]:
    """What this machine's CPU can run, best first."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    lines = [line.partition(":")[2] for line in text.splitlines() if line.startswith("flags")]
    flags = frozenset(lines[0].split()) if lines else frozenset()
    return [isa for isa, (needed, _) in ISAS.items() if needed <= flags]


def library(isa: str) -> Path:
    """The library for this instruction set, compiled if it has to be. Raises NoKernel."""
    name = _name(isa)
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    for folder in [*(Path(prefix) / SHARE for prefix in prefixes if prefix), cache_folder()]:
        if (folder / name).is_file():
            return folder / name
    return build(isa, cache_folder())


def cache_folder() -> Path:
    """Where libraries that were compiled at run time stay."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "skyfog" / "kernels"


def compiler() -> str | None:
    """The C++ compiler: $CXX, c++ or g++; None without one."""
    for name in (os.environ.get("CXX"), "c++", "g++"):
        if name and (found := shutil.which(name)):
            return found
    return None


def build(isa: str, folder: Path) -> Path:
    """Compile the library for this instruction set into `folder`, unless it is there. Raises NoKernel."""
    target = folder / _name(isa)
    if target.is_file():
        return target
    command = compiler()
    if command is None:
        raise NoKernel("no C++ compiler (c++ or g++)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as temporary:
            made = Path(temporary) / target.name
            sources = [str(source) for source in sorted(SOURCES.glob("*.cpp"))]
            arguments = [command, *FLAGS, *ISAS[isa][1], *sources, "-o", str(made)]
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=COMPILE_LIMIT_S, check=False)
            if done.returncode:
                raise NoKernel(f"{command} failed for {isa}: {done.stderr[-2000:].strip()}")
            made.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoKernel(f"the kernel cannot be compiled into {folder}: {error}") from error
    return target


def _name(isa: str) -> str:
    # The compiler does not count: what the install tree brings is to be found where there is none.
    digest = hashlib.sha256(repr((FLAGS, ISAS[isa][1], platform.machine())).encode())
    for source in sorted(SOURCES.iterdir()):
        if source.suffix in {".cpp", ".h"}:
            digest.update(source.read_bytes())
    return f"attention-{isa}-{digest.hexdigest()[:16]}.so"
