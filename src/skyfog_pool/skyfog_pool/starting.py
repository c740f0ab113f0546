"""Starts a pool's controller as a process, without importing what it needs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from skyfog_core.errors import ConfigError
from skyfog_pool.folders import STATE_DIR, Folder, root

# With the fleet's network where skyfog_bringup is installed; without it readiness is the probe's word alone.
MODULES = ("skyfog_bringup.pool_controller", "skyfog_pool.daemon")


def run_here(folder: Folder, metrics: str = "") -> int:
    """A controller in the foreground, until its pool is down or Ctrl-C. Returns its exit status."""
    with subprocess.Popen(_command(folder, metrics), env=_environment()) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the terminal told it too: it ends by itself
                continue


def spawn(folder: Folder, metrics: str = "") -> subprocess.Popen[bytes]:
    """A controller in a session of its own, with its output in the pool's log."""
    command = _command(folder, metrics)
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with folder.log.open("ab") as out:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd="/",
                env=_environment(),
            )
    except OSError as error:
        raise ConfigError(f"{folder.log}: {error.strerror or error}") from None


def _command(folder: Folder, metrics: str) -> list[str]:
    module = next(name for name in MODULES if _is_there(name))
    return [sys.executable, "-m", module, folder.name, *(["--metrics", metrics] if metrics else [])]


def _environment() -> dict[str, str]:
    """Ours, without paths that depend on where we are."""
    path = [str(Path(entry).resolve()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {**os.environ, STATE_DIR: str(root().parent), "PYTHONPATH": os.pathsep.join(path)}


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
