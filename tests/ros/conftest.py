"""Tests with real ROS 2 processes; skipped where there is no ROS or no built workspace."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.ros import Fleet

MISSING = [name for name in ("rclpy", "skyfog_interfaces") if importlib.util.find_spec(name) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ros)
            if MISSING:
                item.add_marker(pytest.mark.skip(reason=f"{' and '.join(MISSING)} cannot be imported: ./ws build"))


collect_ignore_glob = ["*/test_*.py"] if MISSING else []


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """An empty fleet; whatever a test starts in it is ended."""
    from support.processes import Processes
    from support.ros import Fleet

    with Processes(tmp_path) as processes:
        yield Fleet(processes, tmp_path)
