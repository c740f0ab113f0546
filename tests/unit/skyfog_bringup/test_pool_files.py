"""The service files that bringup installs."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyfog_pool.spec import load

FOLDER = Path(__file__).parents[3] / "config" / "pools"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_service_file_of_ours_can_be_used(file: Path) -> None:
    spec = load(file)
    assert spec.name == file.stem
    assert spec.resources.spot
    assert not spec.run, "what runs where nothing is said is the replica role"


def test_there_are_some() -> None:
    assert list(FOLDER.glob("*.yaml"))
