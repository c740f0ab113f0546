"""Which worlds there are: SDF files by name, in a folder."""

from __future__ import annotations

from pathlib import Path

from skyfog_core.config.base import nearest
from skyfog_core.errors import ConfigError

FOLDER = "sim_worlds"


def find_world(name: str, installed: Path) -> Path:
    """The file of a world in `installed`, or an SDF file by its path. Raises ConfigError that names those there are."""
    if "/" in name or name.endswith(".sdf"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"{name}: there is no such file")
        return path
    path = installed / f"{name}.sdf"
    if not path.is_file():
        known = sorted(file.stem for file in installed.glob("*.sdf"))
        raise ConfigError(
            f"unknown world {name!r}{nearest(name, known)} (in {installed}: {', '.join(known) or 'none'})"
        )
    return path


def source_worlds() -> Path:
    """The sim_worlds/ of the workspace that this code is in. Raises ConfigError where it is in none."""
    for folder in Path(__file__).resolve().parents:
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    raise ConfigError(f"{Path(__file__)} is in no workspace with a {FOLDER}/ folder")
