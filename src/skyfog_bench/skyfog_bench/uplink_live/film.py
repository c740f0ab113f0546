"""What the three cameras of the street's car see on a drive, as videos: `python -m … FOLDER SECONDS HZ WIDTH HEIGHT`.

Drawn once and played by nodes, since drawing three cameras in software would take the cores that detection needs. The
videos are without loss, so that the car's encoders find what a camera would give them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from skyfog_core.units import S
from skyfog_world.model import CameraSpec, Model, World
from skyfog_world.sdf import load
from skyfog_world.worlds import find_world, source_worlds

if TYPE_CHECKING:
    from skyfog_world.model import Link

WORLD, CAR = "street", "car"
CAMERAS = ("front", "left", "right")
SPEED_MPS = 4.0
CODEC = "FFV1"


def file_of(folder: Path, camera: str) -> Path:
    """Where a camera's video is."""
    return folder / f"{camera}.mkv"


def draw(folder: Path, seconds: float, hz: float, width: int, height: int) -> int:
    """Write the three videos; returns how many frames each has. Raises ConfigError where nothing can be drawn."""
    from skyfog_world.mujoco_sim import Simulation  # noqa: PLC0415 - imports mujoco
    from skyfog_world.sensors import Cameras  # noqa: PLC0415

    world = _with_images_of(load(find_world(WORLD, source_worlds())), width, height)
    mounted = [each for each in world.sensors() if each[0].name == CAR and isinstance(each[2].spec, CameraSpec)]
    simulation = Simulation(world)
    simulation.drive(CAR, SPEED_MPS, 0.0)
    fourcc = cv2.VideoWriter.fourcc(*CODEC)
    films = [cv2.VideoWriter(str(file_of(folder, name)), fourcc, hz, (width, height)) for name in CAMERAS]
    frames = round(seconds * hz)
    try:
        with Cameras(simulation.model, world.background) as cameras:
            for _ in range(frames):
                simulation.advance(round(S / hz))
                for film, (model, link, sensor) in zip(films, mounted, strict=True):
                    picture = cameras.take(simulation.data, model.name, link.name, sensor)
                    assert picture.rgb is not None
                    film.write(cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2BGR))
    finally:
        for film in films:
            film.release()
        simulation.close()
    return frames


def _with_images_of(world: World, width: int, height: int) -> World:
    """The world with cameras of another resolution."""

    def link_of(link: Link) -> Link:
        sensors = tuple(
            replace(sensor, spec=replace(sensor.spec, width=width, height=height))
            if isinstance(sensor.spec, CameraSpec)
            else sensor
            for sensor in link.sensors
        )
        return replace(link, sensors=sensors)

    def model_of(model: Model) -> Model:
        return replace(model, links={name: link_of(link) for name, link in model.links.items()})

    return replace(world, models={name: model_of(model) for name, model in world.models.items()})


def main() -> None:
    """Draw."""
    folder, seconds, hz, width, height = sys.argv[1:]
    draw(Path(folder), float(seconds), float(hz), int(width), int(height))


if __name__ == "__main__":
    main()
