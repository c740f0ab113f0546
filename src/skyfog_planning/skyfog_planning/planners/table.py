"""The planners by the names that OMPL gives them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ompl.geometric as og

from skyfog_core.config.base import nearest
from skyfog_planning.problem import invalid

# What improves its plan for as long as it may run; the others stop at their first.
OPTIMISING = ("AORRTC", "AITstar", "BITstar", "EITstar", "FMT", "InformedRRTstar", "PRMstar", "RRTstar", "SORRTstar")
FIRST = ("BKPIECE1", "KPIECE1", "LBKPIECE1", "PRM", "RRT", "RRTConnect")
# Their solve() starts a thread of its own, which waits for the GIL that a termination callable needs: it never ends.
TIMED = ("PRM", "PRMstar")


@dataclass(frozen=True, slots=True)
class PlannerKind:
    """One entry of the table."""

    name: str
    optimises: bool
    timed: bool  # must be stopped by OMPL's own timer


@cache
def planners() -> dict[str, PlannerKind]:
    """Those that the installed OMPL has: its Python packages leave some out (AITstar in 2.0)."""
    wanted = (*FIRST, *OPTIMISING)
    there = [name for name in wanted if hasattr(og, name)]
    return {name: PlannerKind(name, name not in FIRST, name in TIMED) for name in sorted(there)}


def find_planner(name: str) -> PlannerKind:
    """Raises PlanError(INVALID) with the nearest name and all that there are."""
    known = planners()
    if name not in known:
        raise invalid(f"planner: no {name!r} in this OMPL{nearest(name, list(known))} (there are: {', '.join(known)})")
    return known[name]


def make(kind: PlannerKind, space_information: Any) -> Any:
    """A new planner of this kind."""
    return getattr(og, kind.name)(space_information)
