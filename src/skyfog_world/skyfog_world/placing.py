"""Where a scene seed puts the things of a world: apart from each other, the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from skyfog_core.errors import ConfigError
from skyfog_core.rng import stream
from skyfog_world.model import Box, Cylinder, Model, SceneSpec, Sphere, World

TRIES = 2_000  # of one layout
LAYOUTS = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Metres in the world, and the angle about z."""

    x: float
    y: float
    yaw: float


def footprint(model: Model) -> float:
    """The radius of a circle about its origin that holds all that touches, seen from above. Meshes do not count."""
    radius = 0.0
    for link in model.links.values():
        for collision in link.collisions:
            shape, pose = collision.shape, link.pose @ collision.pose
            if isinstance(shape, Box):
                reach = math.hypot(shape.size[0], shape.size[1]) / 2
            elif isinstance(shape, Cylinder | Sphere):
                reach = shape.radius
            else:
                continue
            radius = max(radius, reach + math.hypot(pose[0, 3], pose[1, 3]))
    return radius


def draw_places(radii: Mapping[str, float], spec: SceneSpec, seed: int) -> dict[str, Place]:
    """A place for each name of `radii`, with at least `spec.gap` between the circles. The same seed, the same places.

    Raises ConfigError where they do not fit.
    """
    random = stream(seed, "scene")
    for _ in range(LAYOUTS):
        places: dict[str, Place] = {}
        tries = 0
        while len(places) < len(radii) and tries < TRIES:
            tries += 1
            name = list(radii)[len(places)]
            x = random.uniform(spec.low[0], spec.high[0])
            y = random.uniform(spec.low[1], spec.high[1])
            yaw = random.uniform(-math.pi, math.pi)
            if all(
                math.hypot(x - other.x, y - other.y) >= radii[name] + radii[taken] + spec.gap
                for taken, other in places.items()
            ):
                places[name] = Place(x, y, yaw)
        if len(places) == len(radii):
            return places
    raise ConfigError(
        f"scene: {len(radii)} models do not fit between {spec.low} and {spec.high} with {spec.gap} m between them"
    )


def scene_places(world: World, seed: int) -> dict[str, Place]:
    """Where `seed` puts the models that the world's <skyfog:scene> names; none for seed 0, which means as in the file.

    Raises ConfigError where the world has no such element, or the models do not fit.
    """
    if seed == 0:
        return {}
    if world.scene is None:
        raise ConfigError(f"{world.file}: has no <skyfog:scene>, so that a scene seed has nothing to move")
    return draw_places({name: footprint(world.models[name]) for name in world.scene.models}, world.scene, seed)
