"""The car's option table, cut down so that many short drives are played in little time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.tables import load_table

CONFIG = Path(__file__).parents[2] / "config" / "uplink"
CHOSEN = ("detect_rear", "motion", "planning", "assist_video")


@cache
def small_car() -> Table:
    """Four services of config/uplink/car.yaml."""
    table = load_table(CONFIG / "car.yaml")
    services = tuple(service for service in table.services if service.name in CHOSEN)
    scenes = tuple(
        replace(scene, weights={name: weight for name, weight in scene.weights.items() if name in CHOSEN})
        for scene in table.scenes
    )
    return replace(table, services=services, scenes=scenes)
