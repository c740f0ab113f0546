"""Where model folders are: those that a user added, and those that came with the package."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = "skyfog_perception"


def model_folders(models_dir: str = "") -> tuple[Path, Path]:
    """The user's folder of models, `models_dir` where given, and the installed one. Either may not exist."""
    return (user_models(models_dir), installed_models())


def user_models(models_dir: str = "") -> Path:
    """`models_dir`, else $SKYFOG_MODELS, else the XDG data folder."""
    given = models_dir or os.environ.get("SKYFOG_MODELS", "")
    if given:
        return Path(given).expanduser()
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if data else Path.home() / ".local" / "share") / "skyfog" / "models"


def installed_models() -> Path:
    """Where the build installs model folders; beside the sources where it does not."""
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        models = Path(prefix) / "share" / PACKAGE / "models"
        if prefix and models.is_dir():
            return models
    return Path(__file__).resolve().parents[1] / "models"
