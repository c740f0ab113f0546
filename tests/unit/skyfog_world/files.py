"""Small SDF files for the tests of the loader."""

from __future__ import annotations

from pathlib import Path

from skyfog_world.model import World
from skyfog_world.sdf import load

WORLDS = Path(__file__).resolve().parents[3] / "sim_worlds"
SPHERE = '<collision name="c"><geometry><sphere><radius>{}</radius></sphere></geometry></collision>'
BALL = f'<link name="ball">{SPHERE.format(0.1)}</link>'


def world_text(inside: str) -> str:
    return f'<sdf version="1.7" xmlns:skyfog="https://skyfog.example.org/sdf"><world name="w">{inside}</world></sdf>'


def loaded(folder: Path, inside: str) -> World:
    """A world with `inside` in it."""
    file = folder / "w.sdf"
    file.write_text(world_text(inside))
    return load(file)


def model(inside: str, name: str = "m") -> str:
    return f'<model name="{name}">{inside}</model>'


def link(name: str, inside: str = "") -> str:
    return f'<link name="{name}">{inside}</link>'


def joint(kind: str, parent: str, child: str, inside: str = "", name: str = "j") -> str:
    ends = f"<parent>{parent}</parent><child>{child}</child>"
    return f'<joint name="{name}" type="{kind}">{ends}{inside}</joint>'
