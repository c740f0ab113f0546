"""The Panda, loaded once; skipped where planning is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from skyfog_planning.anytime import Planner
    from skyfog_planning.check import Checker

MISSING = [name for name in ("ompl", "pinocchio", "coal", "toppra", "pyroboplan") if find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


@pytest.fixture(scope="session")
def planner() -> Planner:
    from skyfog_planning.anytime import Planner
    from skyfog_planning.robots import read_robot

    return Planner(read_robot("panda"))


@pytest.fixture(scope="session")
def checker() -> Checker:
    """The last word, apart from the planner's own."""
    from skyfog_planning.check import Checker
    from skyfog_planning.robots import read_robot

    return Checker(read_robot("panda"))
