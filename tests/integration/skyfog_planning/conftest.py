"""The Panda, loaded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from skyfog_planning.anytime import Planner
    from skyfog_planning.check import Checker


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
