"""Labelled pictures of the tabletop: what the wrist camera sees, and of which class each of its pixels is.

The class of a thing is the first word of its model's name: `cube_red_0` is a cube. All else is background.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from skyfog_world.model import Sensor, World
from skyfog_world.mujoco_sim import Simulation
from skyfog_world.sensors import Cameras

BACKGROUND = "background"
ARM = "panda"
HAND = "panda_hand"
# Arm joints of three looks at the table, radians; pictures are taken around these.
LOOKS = (
    (0.0, -0.486, 0.0, -2.338, 0.0, 1.924, 0.785),
    (-0.046, -0.184, 0.569, -2.124, -0.303, 1.878, 1.378),
    (0.046, -0.184, -0.569, -2.124, 0.303, 1.878, 0.192),
)
SPREAD_RAD = 0.12

Images = npt.NDArray[np.uint8]  # [N, H, W, 3] RGB
Labels = npt.NDArray[np.uint8]  # [N, H, W] class ids


def classes_of(world: World) -> list[str]:
    """Background, then the classes of what a scene seed moves, by name."""
    assert world.scene is not None
    return [BACKGROUND, *sorted({name.partition("_")[0] for name in world.scene.models})]


def labelled(world: World, seeds: Iterable[int]) -> tuple[Images, Labels]:
    """A picture for each scene seed, from a random look at it."""
    simulation = Simulation(world)
    sensor = _camera(world)
    classes = classes_of(world)
    class_of_geom = _class_of_geom(simulation.model, classes)
    images, labels = [], []
    with Cameras(simulation.model, world.background) as cameras:
        for seed in seeds:
            rng = np.random.default_rng(seed)
            simulation.reset(seed)
            look = np.asarray(LOOKS[rng.integers(len(LOOKS))]) + rng.normal(0, SPREAD_RAD, len(LOOKS[0]))
            _pose_arm(simulation, look.tolist(), float(rng.uniform(0, 0.04)))
            picture = cameras.take(simulation.data, ARM, HAND, sensor)
            assert picture.rgb is not None
            geoms = cameras.shapes(simulation.data, ARM, HAND, sensor)
            images.append(picture.rgb)
            labels.append(np.where(geoms < 0, 0, class_of_geom[geoms]).astype(np.uint8))
    simulation.close()
    return np.stack(images), np.stack(labels)


def _camera(world: World) -> Sensor:
    sensors = world.models[ARM].links[HAND].sensors
    return next(sensor for sensor in sensors if sensor.name == "wrist_camera")


def _class_of_geom(model: Any, classes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """[geoms] class ids, by the model that a shape belongs to."""
    ids = np.zeros(model.ngeom, np.uint8)
    for geom in range(model.ngeom):
        name = str(model.body(model.geom_bodyid[geom]).name).partition("_")[0]
        ids[geom] = classes.index(name) if name in classes else 0
    return ids


def _pose_arm(simulation: Simulation, arm: Sequence[float], finger: float) -> None:
    """Put the arm somewhere at once, without any motion between."""
    for index, value in enumerate(arm, start=1):
        simulation.data.joint(f"{ARM}/panda_joint{index}").qpos[0] = value
    for index in (1, 2):
        simulation.data.joint(f"{ARM}/panda_finger_joint{index}").qpos[0] = finger
    mujoco.mj_forward(simulation.model, simulation.data)
