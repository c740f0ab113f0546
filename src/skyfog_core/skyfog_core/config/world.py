"""Schemas of `skyfog_world`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skyfog_core.config.base import Strict


class WorldConfig(Strict):
    """The embedded simulator."""

    world: Annotated[str, Field(min_length=1, description="an installed world's name, or the path of an SDF file")] = (
        "warehouse"
    )
    real_time_factor: Annotated[
        float,
        Field(ge=0.0, le=100.0, description="simulated seconds a second; 0: as fast as it goes, no image left out"),
    ] = 1.0
    scene_seed: Annotated[
        int, Field(ge=0, description="draws where the things of the scene are; 0: where the world's file has them")
    ] = 0
    shadows: Annotated[bool, Field(description="cast shadows: without a GPU, images take about five times as long")] = (
        False
    )
    state_hz: Annotated[float, Field(ge=1.0, le=500.0, description="/joint_states and /tf, in simulated time")] = 50.0
    model_states_hz: Annotated[float, Field(ge=0.1, le=100.0, description="~/model_states, in simulated time")] = 10.0
