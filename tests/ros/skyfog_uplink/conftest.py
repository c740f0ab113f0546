"""One car a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.car import Car
from support.processes import Processes


@pytest.fixture
def car(tmp_path: Path) -> Iterator[Car]:
    """A car without nodes yet; whatever a test starts of it is ended."""
    with Processes(tmp_path) as processes:
        yield Car(processes, tmp_path)
