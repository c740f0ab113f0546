"""Real physics and real drawing; skipped where MuJoCo is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("mujoco is not installed: ./ws extra world", allow_module_level=True)

from skyfog_world.mujoco_sim import Simulation
from skyfog_world.sdf import load

WORLDS = Path(__file__).resolve().parents[3] / "sim_worlds"

Make = Callable[..., Simulation]


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Make]:
    """A world by its name, or by what is inside its <world>."""
    made: list[Simulation] = []

    def make(world: str, seed: int = 0) -> Simulation:
        file = WORLDS / f"{world}.sdf"
        if world.startswith("<"):
            file = tmp_path / "w.sdf"
            file.write_text(f'<sdf version="1.7"><world name="w">{world}</world></sdf>')
        made.append(Simulation(load(file), seed=seed))
        return made[-1]

    yield make
    for simulation in made:
        simulation.close()
