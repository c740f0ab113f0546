"""Heavy parts that only some commands need: installed by the first command that does.

`tools/extras/<name>.txt` lists an extra's Python packages, `<name>.apt` its Debian packages. `./ws extra <name>`
installs both with the pinned versions.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from skyfog_core.errors import ConfigError

INSTALL_LIMIT_S = 1_200


def missing(*modules: str) -> list[str]:
    """Those of the top-level `modules` that cannot be imported here."""
    return [module for module in modules if importlib.util.find_spec(module) is None]


def need(extra: str, *modules: str) -> None:
    """Make `modules` importable, installing `extra` where they are not. Raises ConfigError that says what mends it.

    Installs only inside a workspace (SKYFOG_WS, set by tools/env.sh); elsewhere the error names the packages.
    """
    absent = missing(*modules)
    if not absent:
        return
    workspace = os.environ.get("SKYFOG_WS", "")
    if not workspace or not (Path(workspace) / "tools" / "extras" / f"{extra}.txt").is_file():
        raise ConfigError(f"{', '.join(absent)}: not installed here; in a workspace: ./ws extra {extra}")
    command = [str(Path(workspace) / "ws"), "extra", extra]
    try:
        done = subprocess.run(command, stdout=sys.stderr, check=False, timeout=INSTALL_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"./ws extra {extra} did not end within {INSTALL_LIMIT_S} s; run it by hand") from None
    importlib.invalidate_caches()
    absent = missing(*modules)
    if done.returncode != 0 or absent:
        raise ConfigError(f"{', '.join(absent) or extra}: could not be installed; to mend it: ./ws extra {extra}")
