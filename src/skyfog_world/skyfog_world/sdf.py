"""Loads a world from SDF: the 1.7 subset that Gazebo classic and gz-sim both load, with gz-sim's plugin tags.

What a file has beyond that is named in `World.warnings`; what contradicts itself is a ConfigError that names file and
element.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np

from skyfog_core.errors import ConfigError
from skyfog_core.poses import Pose
from skyfog_world.frames import FrameError, FrameTree, Vector
from skyfog_world.model import WORLD, Joint, Light, Link, Mimic, Model, SceneSpec, TrafficSpec, World
from skyfog_world.reader import Element, read
from skyfog_world.sdf_link import read_link
from skyfog_world.sdf_plugins import read_controls

MODEL = "__model__"
PATHS = "GZ_SIM_RESOURCE_PATH"
# What the embedded simulator does by itself.
SYSTEMS = tuple(f"gz::sim::systems::{name}" for name in ("Physics", "UserCommands", "SceneBroadcaster", "Sensors"))
FREE = 1e15  # SDF writes "no limit" as ±1e16
KINDS = {
    "fixed": "fixed",
    "revolute": "revolute",
    "continuous": "revolute",
    "prismatic": "prismatic",
    "ball": "ball",
}


def load(file: Path) -> World:
    """The world of an SDF file. Raises ConfigError that names file and element."""
    warnings: list[str] = []
    root = read(file, warnings)
    world = root.need("world")
    world.only_knows(
        *("gravity", "physics", "scene", "light", "model", "include", "frame", "plugin"),
        *("skyfog:scene", "skyfog:traffic", "gui"),
    )
    scene, physics = world.child("scene"), world.child("physics")
    _warn_of_the_rest(world, scene, physics)
    found = Resolver(file)
    frames = FrameTree(WORLD)
    _state_frames(world, frames, WORLD)
    models = [*world.children("model"), *(found.included(include) for include in world.children("include"))]
    for model in models:
        _state(model, frames, model.attribute("name"), WORLD)
    inner = {model.attribute("name"): _model_frames(model) for model in models}
    built = {
        model.attribute("name"): _model(model, inner[model.attribute("name")], _world_pose(model, frames, inner), found)
        for model in models
    }
    return World(
        name=world.attribute("name"),
        file=file,
        step_s=physics.number("max_step_size", 0.001, above=0) if physics is not None else 0.001,
        gravity=_three(world.numbers("gravity", 3, (0, 0, -9.8))),
        ambient=_three(scene.colour("ambient", (0.4, 0.4, 0.4))) if scene is not None else (0.4, 0.4, 0.4),
        background=_three(scene.colour("background", (0.7, 0.7, 0.7))) if scene is not None else (0.7, 0.7, 0.7),
        models=built,
        lights=tuple(_light(light) for light in world.children("light")),
        scene=_scene(world, built),
        traffic=_traffic(world, built),
        warnings=tuple(warnings),
    )


def _warn_of_the_rest(world: Element, scene: Element | None, physics: Element | None) -> None:
    if scene is not None:
        scene.only_knows("ambient", "background", "shadows", "grid")
    if physics is not None:
        physics.only_knows("max_step_size", "real_time_factor", "real_time_update_rate")
    for plugin in world.children("plugin"):
        if plugin.attribute("name") not in SYSTEMS:
            world.warnings.append(
                f"{plugin.file}: {plugin.place}: this plugin is not supported (supported: {', '.join(SYSTEMS)})"
            )


class Resolver:
    """Where model:// and relative paths lead: the world's own folder, its models/, and GZ_SIM_RESOURCE_PATH."""

    def __init__(self, world: Path) -> None:
        given = [Path(text) for text in os.environ.get(PATHS, "").split(":") if text]
        self.folders = [world.parent / "models", world.parent, *given]

    def file(self, uri: str, near: Element) -> Path:
        """Raises ConfigError where there is no such file."""
        if uri.startswith("model://"):
            tried = [folder / uri.removeprefix("model://") for folder in self.folders]
        elif "://" in uri and not uri.startswith("file://"):
            raise near.error(f"{uri!r}: only model://, file:// and relative paths are supported")
        else:
            tried = [near.file.parent / uri.removeprefix("file://")]
        for path in tried:
            if path.is_file() or (path / "model.sdf").is_file():
                return path
        raise near.error(f"{uri!r} leads to no file (tried: {', '.join(str(path) for path in tried)})")

    def included(self, include: Element) -> Element:
        """The model that an <include> means, under the name and with the pose it is given there."""
        include.only_knows("uri", "name", "pose", "static")
        path = self.file(include.text("uri"), include)
        file = path / "model.sdf" if path.is_dir() else path
        model = read(file, include.warnings).need("model")
        xml = copy.deepcopy(model.xml)
        name = include.text("name", model.attribute("name"))
        xml.set("name", name)
        for tag in ("static", "pose"):
            given = include.child(tag)
            if given is None:
                continue
            for old in xml.findall(tag):
                xml.remove(old)
            xml.append(copy.deepcopy(given.xml))
        return Element(xml, file, f"model {name!r}", include.warnings)


def _state(element: Element, frames: FrameTree, name: str, default: str) -> None:
    try:
        frames.state(name, element.relative_to(default), element.pose())
    except FrameError as error:
        raise element.error(str(error)) from None


def _state_frames(scope: Element, frames: FrameTree, default: str) -> None:
    for frame in scope.children("frame"):
        _state(frame, frames, frame.attribute("name"), frame.xml.get("attached_to") or default)


def _model_frames(model: Element) -> FrameTree:
    """Links, joints and frames of one model."""
    frames = FrameTree(MODEL)
    for link in model.children("link"):
        _state(link, frames, link.attribute("name"), MODEL)
    for joint in model.children("joint"):
        _state(joint, frames, joint.attribute("name"), joint.text("child"))
    _state_frames(model, frames, MODEL)
    return frames


def _resolve(element: Element, frames: FrameTree, name: str) -> Pose:
    try:
        return frames.pose(name)
    except FrameError as error:
        raise element.error(str(error)) from None


def _world_pose(element: Element, frames: FrameTree, inner: dict[str, FrameTree]) -> Pose:
    """A model's pose, which may be stated in `model::link`."""
    owner, separator, part = element.relative_to(WORLD).partition("::")
    if not separator:
        return _resolve(element, frames, element.attribute("name"))
    if owner not in inner:
        raise element.error(f"there is no model {owner!r} (there are: {', '.join(inner)})")
    return _resolve(element, frames, owner) @ _resolve(element, inner[owner], part) @ element.pose()


def _model(model: Element, frames: FrameTree, pose: Pose, found: Resolver) -> Model:
    model.only_knows("static", "self_collide", "pose", "link", "joint", "frame", "plugin", "allow_auto_disable")
    name = model.attribute("name")
    links = {
        link.attribute("name"): read_link(link, _resolve(link, frames, link.attribute("name")), name, found.file)
        for link in model.children("link")
    }
    if not links:
        raise model.error("has no <link>")
    joints = {joint.attribute("name"): _joint(joint, frames, links) for joint in model.children("joint")}
    _check_tree(model, joints)
    drive, trajectories, positions = read_controls(model, joints)
    return Model(
        name=name,
        pose=pose,
        static=model.flag("static", False),
        self_collide=model.flag("self_collide", False),
        links=links,
        joints=joints,
        drive=drive,
        trajectories=trajectories,
        positions=positions,
    )


def _joint(joint: Element, frames: FrameTree, links: dict[str, Link]) -> Joint:
    joint.only_knows("parent", "child", "pose", "axis")
    kind = joint.attribute("type")
    if kind not in KINDS:
        raise joint.error(f"type {kind!r} is not supported (supported: {', '.join(KINDS)})")
    parent, child = joint.text("parent"), joint.text("child")
    for end in (parent, child):
        if end not in links and end != WORLD:
            raise joint.error(f"there is no link {end!r} (there are: {', '.join([WORLD, *links])})")
    if child == WORLD:
        raise joint.error("the world cannot be a joint's child")
    in_model = _resolve(joint, frames, joint.attribute("name"))
    link = _resolve(joint, frames, child)
    pose = np.linalg.inv(link) @ in_model
    if kind in ("fixed", "ball"):
        return Joint(joint.attribute("name"), kind, parent, child, pose, np.array([0.0, 0, 1]))
    return _axis(joint, joint.need("axis"), frames, (parent, child), pose, link)


def _axis(joint: Element, axis: Element, frames: FrameTree, ends: tuple[str, str], pose: Pose, link: Pose) -> Joint:
    axis.only_knows("xyz", "limit", "dynamics", "mimic", "use_parent_model_frame")
    xyz = np.array(axis.numbers("xyz", 3, (0, 0, 1)))
    length = float(np.linalg.norm(xyz))
    if length < 1e-9:
        raise axis.error("<xyz> is a direction and needs a length")
    direction = axis.need("xyz").xml if axis.child("xyz") is not None else axis.xml
    expressed = direction.get("expressed_in") or (MODEL if axis.flag("use_parent_model_frame", False) else "")
    rotation = np.linalg.inv(link) @ _resolve(axis, frames, expressed) if expressed else pose
    limit, dynamics, mimic = axis.child("limit"), axis.child("dynamics"), axis.child("mimic")
    lower = limit.number("lower", -FREE) if limit is not None else -FREE
    upper = limit.number("upper", FREE) if limit is not None else FREE
    if lower > upper:
        raise axis.error(f"<lower> is {lower:g}, above <upper>, which is {upper:g}")
    effort = limit.number("effort", -1.0) if limit is not None else -1.0
    return Joint(
        name=joint.attribute("name"),
        kind=KINDS[joint.attribute("type")],
        parent=ends[0],
        child=ends[1],
        pose=pose,
        axis=rotation[:3, :3] @ (xyz / length),
        lower=lower if lower > -FREE else -np.inf,
        upper=upper if upper < FREE else np.inf,
        effort=effort if effort >= 0 else np.inf,
        damping=dynamics.number("damping", 0.0, low=0) if dynamics is not None else 0.0,
        friction=dynamics.number("friction", 0.0, low=0) if dynamics is not None else 0.0,
        mimic=None
        if mimic is None
        else Mimic(mimic.attribute("joint"), mimic.number("multiplier", 1.0), mimic.number("offset", 0.0)),
    )


def _check_tree(model: Element, joints: dict[str, Joint]) -> None:
    """Every link hangs on at most one joint, and none on itself; mimicked joints are there."""
    parents: dict[str, str] = {}
    for joint in joints.values():
        if joint.child in parents:
            raise model.error(f"link {joint.child!r} is the child of two joints; closed chains are not supported")
        parents[joint.child] = joint.parent
        if joint.mimic is not None and joint.mimic.joint not in joints:
            raise model.error(f"joint {joint.name!r} mimics {joint.mimic.joint!r}, which is not there")
    for start, above in parents.items():
        seen, here = {start}, above
        while here in parents:
            if here in seen:
                raise model.error(f"link {here!r} hangs on itself")
            seen.add(here)
            here = parents[here]


def _light(light: Element) -> Light:
    light.only_knows("pose", "diffuse", "specular", "direction", "cast_shadows", "attenuation", "intensity", "spot")
    kind = light.attribute("type")
    if kind not in ("directional", "point", "spot"):
        raise light.error(f"type {kind!r} is not supported (supported: directional, point, spot)")
    pose = light.pose()
    direction: Vector = pose[:3, :3] @ np.array(light.numbers("direction", 3, (0, 0, -1)))
    return Light(
        name=light.attribute("name"),
        kind=kind,
        position=pose[:3, 3],
        direction=direction,
        diffuse=_three(light.colour("diffuse", (1, 1, 1))),
        specular=_three(light.colour("specular", (0.1, 0.1, 0.1))),
        shadows=light.flag("cast_shadows", False),
    )


def _named(element: Element, models: dict[str, Model]) -> tuple[str, ...]:
    names = tuple(element.text("models").split())
    for name in names:
        if name not in models:
            raise element.error(f"there is no model {name!r} (there are: {', '.join(models)})")
    return names


def _scene(world: Element, models: dict[str, Model]) -> SceneSpec | None:
    element = world.child("skyfog:scene")
    if element is None:
        return None
    element.only_knows("models", "low", "high", "gap")
    low, high = element.numbers("low", 2), element.numbers("high", 2)
    if low[0] >= high[0] or low[1] >= high[1]:
        raise element.error("<low> must be below <high> in both directions")
    return SceneSpec(_named(element, models), (low[0], low[1]), (high[0], high[1]), element.number("gap", 0.0, low=0))


def _traffic(world: Element, models: dict[str, Model]) -> TrafficSpec | None:
    element = world.child("skyfog:traffic")
    if element is None:
        return None
    element.only_knows("models", "recorded", "sumo")
    names = _named(element, models)
    for name in names:
        if not models[name].static:
            raise element.error(f"model {name!r} is not <static>: traffic moves it, not forces")
    recorded = element.file.parent / element.text("recorded")
    if not recorded.is_file():
        raise ConfigError(f"{element.file}: {element.place}: <recorded>: there is no file {recorded}")
    sumo = element.text("sumo", "")
    return TrafficSpec(names, recorded, element.file.parent / sumo if sumo else None)


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]
