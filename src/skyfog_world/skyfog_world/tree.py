"""The frames of a world's robots as ROS has them: one tree by way of joints, from the world or from odometry.

A link's frame has the link's name, or `model/link` where two robots have links of the same name. A camera's picture is
in an optical frame, z forward, which is the `gz_frame_id` of its sensor if that has one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from skyfog_core.poses import Pose
from skyfog_world.frames import OPTICAL
from skyfog_world.model import WORLD, CameraSpec, Link, Model, Sensor, World


@dataclass(frozen=True, slots=True, eq=False)
class FixedEdge:
    """A frame that never moves in its parent."""

    parent: str
    child: str
    pose: Pose


@dataclass(frozen=True, slots=True)
class MovingEdge:
    """A link that moves in the link that it hangs on."""

    parent: str
    child: str
    model: str
    parent_link: str
    child_link: str


@dataclass(frozen=True, slots=True)
class OdometryEdge:
    """A base in the frame of its odometry."""

    parent: str
    child: str
    model: str


Edge = FixedEdge | MovingEdge | OdometryEdge


def robots(world: World) -> list[Model]:
    """The models whose frames are told: those that drive something or see something."""
    return [
        model
        for model in world.models.values()
        if model.moves_itself or any(link.sensors for link in model.links.values())
    ]


def frame_names(world: World) -> dict[tuple[str, str], str]:
    """The frame of each robot's links, by model and link."""
    pairs = [(model.name, link) for model in robots(world) for link in model.links]
    count = Counter(link for _, link in pairs)
    return {(model, link): link if count[link] == 1 else f"{model}/{link}" for model, link in pairs}


def edges(world: World) -> list[Edge]:
    """The whole tree, parents before children."""
    names = frame_names(world)
    found: list[Edge] = []
    for model in robots(world):
        for link in model.links.values():
            found += _above(model, link, names)
            for sensor in link.sensors:
                found += _of_sensor(model, link, sensor, names)
    return found


def _above(model: Model, link: Link, names: dict[tuple[str, str], str]) -> list[Edge]:
    """The edge to what a link hangs on, and where that is odometry's frame, between the two."""
    me = names[model.name, link.name]
    joint = next((joint for joint in model.joints.values() if joint.child == link.name), None)
    if joint is None and model.drive is not None:
        base = model.drive.child_frame_id
        odometry = OdometryEdge(model.drive.frame_id, base, model.name)
        return [odometry] if base == me else [odometry, FixedEdge(base, me, np.eye(4))]
    if joint is None and not model.static:
        return []  # thrown about freely: nothing tells a robot where it is
    if joint is None or joint.parent == WORLD:
        return [FixedEdge(WORLD, me, model.pose @ link.pose)]
    parent = names[model.name, joint.parent]
    if joint.kind == "fixed" or model.static:
        return [FixedEdge(parent, me, np.linalg.inv(model.links[joint.parent].pose) @ link.pose)]
    return [MovingEdge(parent, me, model.name, joint.parent, link.name)]


def _of_sensor(model: Model, link: Link, sensor: Sensor, names: dict[tuple[str, str], str]) -> list[Edge]:
    """Where a sensor is, and the frame that stands in its headers: for a camera an optical one."""
    parent, mount = names[model.name, link.name], f"{model.name}/{link.name}/{sensor.name}"
    found: list[Edge] = [FixedEdge(parent, mount, sensor.pose)]
    if sensor.frame_id != mount and sensor.frame_id not in names.values():
        turned = OPTICAL if isinstance(sensor.spec, CameraSpec) else np.eye(4)
        found.append(FixedEdge(parent, sensor.frame_id, sensor.pose @ turned))
    return found
