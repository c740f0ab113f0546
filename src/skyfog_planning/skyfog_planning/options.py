"""How the service plans, where a request leaves it open. Imports nothing heavy: it goes to another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Geometry = Literal["hulls", "spheres"]  # of the links while planning


@dataclass(frozen=True, slots=True)
class Options:
    """The defaults are those of skyfog_core.config.planning.PlanConfig."""

    planner: str = "RRTConnect"
    geometry: Geometry = "hulls"
    range_rad: float = 0.7  # longest edge of a search tree
    resolution: float = 0.003  # between checks of an edge, as a share of the space's diagonal
    shortcuts: int = 60
    ik_tries: int = 500
    ik_patience: int = 60
    goals: int = 4
    edge_step_rad: float = 0.03  # between checks of a shortcut
    margin_m: float = 0.004  # kept from everything while planning, where start and goal allow it
