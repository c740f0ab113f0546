"""Peers whose packages do not go together with ours: each in an environment of its own, below `.ws/peers/`."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from skyfog_bench.processes import BenchError
from skyfog_core.config.base import nearest

INSTALL_LIMIT_S = 600.0

# Pinned, so that figures of different days are of the same peer.
PEERS: dict[str, tuple[str, ...]] = {
    "mplib": ("mplib==0.2.1", "numpy==1.26.4", "toppra==0.6.10", "transforms3d==0.4.2"),
}


def environment_of(name: str) -> Path:
    """Where the peer's environment is or would be."""
    workspace = os.environ.get("SKYFOG_WS", "")
    if not workspace:
        raise BenchError("SKYFOG_WS is not set: run this by ./ws run, or in ./ws shell")
    return Path(workspace) / ".ws" / "peers" / name


def python_of(name: str) -> Path | None:
    """The peer's Python, or None where it is not installed."""
    folder = environment_of(name)
    return folder / "bin" / "python" if (folder / "installed").is_file() else None


def install(name: str) -> Path:
    """Make the peer's environment. Raises BenchError that says what failed."""
    if name not in PEERS:
        raise BenchError(f"no peer {name!r}{nearest(name, list(PEERS))} (there are: {', '.join(PEERS)})")
    folder = environment_of(name)
    venv.create(folder, with_pip=True, clear=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PEERS[name]]
    try:
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=INSTALL_LIMIT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{name} could not be installed: {error}") from None
    (folder / "installed").write_text("\n".join(PEERS[name]) + "\n")
    return folder
