"""Packages that do not go together with ours: each in an environment of its own, `.ws/peers/<name>/`.

`tools/environments/<name>.txt` holds the pins of all that is in it, so that figures of different days are of the same
peer; nothing else is installed, so that a list can leave out what a package wants and we do not. Ours talk to it by a
process: `python_of(name)` runs a script there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from skyfog_core.config.base import nearest
from skyfog_core.errors import ConfigError

INSTALL_LIMIT_S = 600.0
INSTALL_COMMAND = "skyfog bench peers install"  # with the name; for what says that one is not installed


def _workspace() -> Path:
    workspace = os.environ.get("SKYFOG_WS", "")
    if not workspace:
        raise ConfigError("SKYFOG_WS is not set: run this by ./ws run, or in ./ws shell")
    return Path(workspace)


def environments() -> dict[str, Path]:
    """The list of packages of every environment there is, by name. Raises ConfigError outside a workspace."""
    lists = sorted((_workspace() / "tools" / "environments").glob("*.txt"))
    return {file.stem: file for file in lists}


def environment_of(name: str) -> Path:
    """Where the environment is or would be. Raises ConfigError outside a workspace."""
    return _workspace() / ".ws" / "peers" / name


def python_of(name: str) -> Path | None:
    """The environment's Python, or None where it is not installed. Raises ConfigError outside a workspace."""
    folder = environment_of(name)
    return folder / "bin" / "python" if (folder / "installed").is_file() else None


def install(name: str) -> Path:
    """Make the environment. Raises ConfigError that says what failed."""
    known = environments()
    if name not in known:
        raise ConfigError(f"no peer {name!r}{nearest(name, list(known))} (there are: {', '.join(known)})")
    folder = environment_of(name)
    venv.create(folder, with_pip=True, clear=True)
    python, wanted = str(folder / "bin" / "python"), ["install", "--quiet", "--no-deps", "-r", str(known[name])]
    # uv takes seconds where pip takes over a minute, but reads no pip.conf: where only pip knows the mirror, pip works.
    uv = Path(sys.executable).parent / "uv"
    commands = [[str(uv), "pip", *wanted, "--python", python]] if uv.is_file() else []
    commands.append([python, "-m", "pip", "--disable-pip-version-check", *wanted])
    surroundings = dict(os.environ)
    if links := os.environ.get("PIP_FIND_LINKS"):  # wheels of this machine, such as a torch without CUDA
        surroundings.setdefault("UV_FIND_LINKS", ",".join(links.split()))
    failed: Exception | None = None
    for command in commands:
        try:
            subprocess.run(command, check=True, stdout=sys.stderr, timeout=INSTALL_LIMIT_S, env=surroundings)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            failed = error
        else:
            (folder / "installed").write_text(known[name].read_text())
            return folder
    raise ConfigError(f"{name} could not be installed: {failed}")
