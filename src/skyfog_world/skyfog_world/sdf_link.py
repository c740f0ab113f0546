"""The part of the SDF loader that reads one link: mass, shapes and sensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from skyfog_core.poses import Pose
from skyfog_world.model import (
    Box,
    CameraSpec,
    Collision,
    Cylinder,
    Inertial,
    LidarSpec,
    Link,
    Mesh,
    Plane,
    Sensor,
    Shape,
    Sphere,
    Visual,
)
from skyfog_world.reader import Element

Find = Callable[[str, Element], Path]

CAMERAS = {"camera": (True, False), "depth_camera": (False, True), "depth": (False, True), "rgbd_camera": (True, True)}
LIDARS = ("gpu_lidar", "lidar", "gpu_ray", "ray")
SHAPES = ("box", "sphere", "cylinder", "capsule", "plane", "mesh")
MESHES = (".obj", ".stl")
GREY = (0.7, 0.7, 0.7, 1.0)
MAX_PIXELS = 4096
MAX_SAMPLES = 100_000


def read_link(link: Element, pose: Pose, model: str, find: Find) -> Link:
    """`find` turns a mesh's URI into a file. Raises ConfigError that names file and element."""
    link.only_knows("pose", "inertial", "gravity", "visual", "collision", "sensor", "self_collide", "enable_wind")
    name = link.attribute("name")
    return Link(
        name=name,
        pose=pose,
        inertial=_inertial(link.child("inertial")),
        gravity=link.flag("gravity", True),
        visuals=tuple(_visual(visual, find) for visual in link.children("visual")),
        collisions=tuple(_collision(collision, find) for collision in link.children("collision")),
        sensors=tuple(
            sensor for element in link.children("sensor") if (sensor := _sensor(element, model, name)) is not None
        ),
    )


def _inertial(element: Element | None) -> Inertial:
    if element is None:
        return Inertial(1.0, np.eye(4), np.eye(3))  # SDF's defaults
    element.only_knows("mass", "pose", "inertia")
    inertia = element.child("inertia")
    matrix = np.eye(3)
    if inertia is not None:
        for place, tag in (((0, 0), "ixx"), ((1, 1), "iyy"), ((2, 2), "izz")):
            matrix[place] = inertia.number(tag, 1.0, above=0)
        for (row, column), tag in (((0, 1), "ixy"), ((0, 2), "ixz"), ((1, 2), "iyz")):
            matrix[row, column] = matrix[column, row] = inertia.number(tag, 0.0)
    return Inertial(element.number("mass", 1.0, above=0), element.pose(), matrix)


def _shape(element: Element, find: Find) -> Shape:
    geometry = element.need("geometry")
    found = [child for child in geometry.every_child() if child.tag in SHAPES]
    if len(found) != 1:
        tags = ", ".join(child.tag for child in geometry.every_child()) or "nothing"
        raise geometry.error(f"holds {tags}; it must hold one of {', '.join(SHAPES)}")
    shape = found[0]
    if shape.tag == "box":
        x, y, z = shape.sizes("size", 3)
        return Box((x, y, z))
    if shape.tag == "sphere":
        return Sphere(shape.number("radius", above=0))
    if shape.tag == "plane":
        width, depth = shape.sizes("size", 2, (100, 100))
        x, y, z = shape.numbers("normal", 3, (0, 0, 1))
        if x == y == z == 0:
            raise shape.error("<normal> needs a length")
        return Plane((x, y, z), (width, depth))
    if shape.tag == "mesh":
        return _mesh(shape, find)
    return Cylinder(shape.number("radius", above=0), shape.number("length", above=0), shape.tag == "capsule")


def _mesh(shape: Element, find: Find) -> Mesh:
    shape.only_knows("uri", "scale")
    file = find(shape.text("uri"), shape)
    if file.suffix.lower() not in MESHES:
        raise shape.error(f"{file.name}: only meshes in {' and '.join(MESHES)} are supported")
    x, y, z = shape.sizes("scale", 3, (1, 1, 1))
    return Mesh(file, (x, y, z))


def _visual(element: Element, find: Find) -> Visual:
    element.only_knows("pose", "geometry", "material", "cast_shadows", "transparency")
    material = element.child("material")
    if material is not None:
        material.only_knows("ambient", "diffuse", "specular", "emissive")
    rgba = material.colour("diffuse", GREY) if material is not None else GREY
    return Visual(element.attribute("name"), element.pose(), _shape(element, find), rgba)


def _collision(element: Element, find: Find) -> Collision:
    element.only_knows("pose", "geometry", "surface")
    friction, torsional = 1.0, None
    surface = element.child("surface")
    parts = surface.child("friction") if surface is not None else None
    ode = parts.child("ode") if parts is not None else None
    turning = parts.child("torsional") if parts is not None else None
    if ode is not None:
        friction = ode.number("mu", 1.0, low=0)
    if turning is not None:
        torsional = turning.number("coefficient", 1.0, low=0)
    return Collision(element.attribute("name"), element.pose(), _shape(element, find), friction, torsional)


def _sensor(element: Element, model: str, link: str) -> Sensor | None:
    """None, with a warning, for a kind that is not supported."""
    kind = element.attribute("type")
    if kind not in CAMERAS and kind not in LIDARS:
        supported = ", ".join([*CAMERAS, *LIDARS])
        element.warnings.append(
            f"{element.file}: {element.place}: sensor type {kind!r} is not supported (supported: {supported})"
        )
        return None
    element.only_knows(
        *("pose", "update_rate", "topic", "always_on", "visualize", "gz_frame_id"),
        *("camera",) if kind in CAMERAS else ("lidar", "ray"),
    )
    name = element.attribute("name")
    offset = element.need("camera").pose() if kind in CAMERAS else np.eye(4)
    return Sensor(
        name=name,
        pose=element.pose() @ offset,
        rate_hz=element.number("update_rate", 10.0, above=0),
        topic=element.text("topic", f"{model}/{name}").strip("/"),
        frame_id=element.text("gz_frame_id", f"{model}/{link}/{name}"),
        spec=_camera(element.need("camera"), kind) if kind in CAMERAS else _lidar(element),
    )


def _camera(camera: Element, kind: str) -> CameraSpec:
    camera.only_knows("pose", "horizontal_fov", "image", "clip", "depth_camera", "noise", "distortion", "lens")
    image, clip = camera.need("image"), camera.child("clip")
    fov = camera.number("horizontal_fov", 1.047, above=0)
    if fov >= np.pi:
        raise camera.error(f"<horizontal_fov> is {fov:g} rad; a camera that projects onto a plane sees less than π")
    near = clip.number("near", 0.1, above=0) if clip is not None else 0.1
    far = clip.number("far", 100.0, above=near) if clip is not None else 100.0
    colour, depth = CAMERAS[kind]
    return CameraSpec(
        width=image.whole("width", low=1, high=MAX_PIXELS),
        height=image.whole("height", low=1, high=MAX_PIXELS),
        horizontal_fov=fov,
        near=near,
        far=far,
        colour=colour,
        depth=depth,
    )


def _lidar(element: Element) -> LidarSpec:
    lidar = element.child("lidar") or element.need("ray")
    horizontal = lidar.need("scan").need("horizontal")
    distances = lidar.need("range")
    low, high = horizontal.number("min_angle"), horizontal.number("max_angle")
    if low >= high:
        raise horizontal.error(f"<min_angle> is {low:g}, not below <max_angle>, which is {high:g}")
    near = distances.number("min", low=0)
    return LidarSpec(
        samples=horizontal.whole("samples", low=2, high=MAX_SAMPLES),
        min_angle=low,
        max_angle=high,
        min_range=near,
        max_range=distances.number("max", above=near),
    )
