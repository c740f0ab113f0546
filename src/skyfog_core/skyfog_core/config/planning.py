"""Schemas of `skyfog_planning`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from skyfog_core.config.base import Strict


class PlanConfig(Strict):
    """The motion planning service."""

    robots: Annotated[
        list[str],
        Field(min_length=1, description="robots to load: installed names, or paths of folders with a robot.yaml"),
    ] = ["panda"]
    workers: Annotated[int, Field(ge=1, le=64, description="processes, each planning one request at a time")] = 1
    planner: Annotated[str, Field(min_length=1, description="OMPL planner where a request names none")] = "RRTConnect"
    geometry: Annotated[
        Literal["hulls", "spheres"], Field(description="of the links while planning; the final check takes the meshes")
    ] = "hulls"
    time_budget_s: Annotated[float, Field(gt=0, le=3_600, description="where a request names none")] = 5.0
    max_time_budget_s: Annotated[float, Field(gt=0, le=3_600, description="longer budgets are cut to this")] = 60.0
    grace_s: Annotated[float, Field(ge=0.1, le=60, description="beyond its budget, before a worker is killed")] = 2.0
    margin_m: Annotated[
        float, Field(ge=0, le=0.1, description="kept from everything while planning, where start and goal allow it")
    ] = 0.004
    range_rad: Annotated[float, Field(gt=0, le=10, description="longest edge of a search tree")] = 0.7
    resolution: Annotated[
        float, Field(gt=0, le=0.1, description="between checks of an edge, as a share of the joint space's diagonal")
    ] = 0.003
    shortcuts: Annotated[int, Field(ge=0, le=10_000, description="attempts to shorten a path")] = 60
    ik_tries: Annotated[int, Field(ge=1, le=100_000, description="random starts of the inverse kinematics")] = 500
    goals: Annotated[int, Field(ge=1, le=64, description="joint solutions of a pose goal given to the search")] = 4

    @model_validator(mode="after")
    def _default_within_maximum(self) -> Self:
        if self.time_budget_s > self.max_time_budget_s:
            raise ValueError(f"time_budget_s {self.time_budget_s} is above max_time_budget_s {self.max_time_budget_s}")
        return self
