"""A world of SDF as MuJoCo's MJCF.

Names in MuJoCo are `model/link`, `model/joint`, `model/link/sensor`; a free model's joint is `model/free`. Visuals are
in geom group 0 and touch nothing; collisions are in group 3, which no camera draws. The links of one model do not touch
each other unless it says <self_collide>, as in Gazebo.
"""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable

import numpy as np

from skyfog_core.poses import Pose, inverse, quaternion
from skyfog_world.frames import OPTICAL, z_onto
from skyfog_world.model import (
    WORLD,
    Box,
    CameraSpec,
    Collision,
    Cylinder,
    Joint,
    Link,
    Mesh,
    Model,
    Plane,
    Shape,
    Sphere,
    Visual,
    World,
)

VISUAL, COLLISION = "0", "3"
ROTOR_INERTIA = 0.1  # kg m² as seen from a driven arm joint, as in the Panda of MuJoCo's menagerie
SMALL_INERTIA = 1e-4  # of every other joint, for the solver's sake
WHEEL_GAIN = 10.0  # N m s; with it a drive agrees with that in Gazebo
WHEEL_TORQUE = 20.0  # N m, where a wheel's joint states no effort
PLANE_THICKNESS = "0.1"
# From MuJoCo's camera axes (looks along -z, y up) to the optical ones (looks along z, y down).
CAMERA_OF_OPTICAL: Pose = np.diag([1.0, -1, -1, 1])


def to_mjcf(world: World, *, shadows: bool = False) -> str:
    """The whole world as an XML text. Traffic models become bodies that are placed, not pushed."""
    return _Writer(world, shadows).text()


def camera_name(model: str, link: str, sensor: str) -> str:
    """Of a camera, or of a lidar's site."""
    return f"{model}/{link}/{sensor}"


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.12g}" for value in values)


def _add(above: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(above, tag, attributes)


def _place(pose: Pose) -> dict[str, str]:
    return {"pos": _numbers(pose[:3, 3]), "quat": _numbers(quaternion(pose))}


class _Writer:
    def __init__(self, world: World, shadows: bool) -> None:
        self._world = world
        self._moved = set(world.traffic.models) if world.traffic else set()
        self._root = ET.Element("mujoco", model=world.name)
        _add(self._root, "compiler", angle="radian", autolimits="true", inertiafromgeom="false")
        self._options(shadows)
        self._asset = _add(self._root, "asset")
        self._body = _add(self._root, "worldbody")
        self._contact = _add(self._root, "contact")
        self._actuator = _add(self._root, "actuator")
        self._meshes: dict[Mesh, str] = {}
        self._scenery(shadows)
        for model in world.models.values():
            self._model(model)

    def text(self) -> str:
        return ET.tostring(self._root, encoding="unicode")

    def _options(self, shadows: bool) -> None:
        world = self._world
        cameras = [sensor.spec for _, _, sensor in world.sensors() if isinstance(sensor.spec, CameraSpec)]
        _add(
            self._root,
            "option",
            timestep=f"{world.step_s:.9g}",
            gravity=_numbers(world.gravity),
            integrator="implicitfast",
            cone="elliptic",
            impratio="10",
        )
        _add(self._root, "statistic", extent="1", center="0 0 0")  # so that znear and zfar are metres
        visual = _add(self._root, "visual")
        # Coarser than MuJoCo's defaults: in software a picture takes 40 % less.
        facets = {"numslices": "20", "numstacks": "10", "numquads": "1"}
        _add(visual, "quality", shadowsize="2048" if shadows else "0", offsamples="0", **facets)
        _add(visual, "headlight", ambient=_numbers(world.ambient), diffuse=".2 .2 .2", specular="0 0 0")
        _add(
            visual,
            "global",
            offwidth=str(max((camera.width for camera in cameras), default=1)),
            offheight=str(max((camera.height for camera in cameras), default=1)),
        )
        near = min((camera.near for camera in cameras), default=0.01)
        far = max((camera.far for camera in cameras), default=100.0)
        _add(visual, "map", znear=f"{near:g}", zfar=f"{far:g}")

    def _scenery(self, shadows: bool) -> None:
        for light in self._world.lights:
            _add(
                self._body,
                "light",
                name=light.name,
                type=light.kind,
                pos=_numbers(light.position),
                dir=_numbers(light.direction),
                diffuse=_numbers(light.diffuse),
                specular=_numbers(light.specular),
                castshadow=str(shadows and light.shadows).lower(),
            )

    def _model(self, model: Model) -> None:
        joint_of = {joint.child: joint for joint in model.joints.values()}
        for name in model.links:
            joint = joint_of.get(name)
            if joint is None or joint.parent == WORLD:
                self._link(self._body, model, name, np.eye(4), joint)
        if not model.self_collide:
            for one, other in itertools.combinations(model.links, 2):
                names = {"body1": f"{model.name}/{one}", "body2": f"{model.name}/{other}"}
                _add(self._contact, "exclude", **names)
        if not model.static:
            self._drives(model)

    def _link(self, above: ET.Element, model: Model, name: str, parent: Pose, joint: Joint | None) -> None:
        link = model.links[name]
        here = model.pose @ link.pose
        body = _add(above, "body", name=f"{model.name}/{name}", **_place(inverse(parent) @ here))
        if not link.gravity:
            body.set("gravcomp", "1")
        if model.name in self._moved and joint is None:
            body.set("mocap", "true")
        if not model.static:
            if joint is None:
                _add(body, "freejoint", name=f"{model.name}/free")
            else:
                self._joint(body, model, joint)
            self._inertial(body, link)
        for visual in link.visuals:
            self._visual(body, model, link, visual)
        for collision in link.collisions:
            self._collision(body, model, link, collision)
        for sensor in link.sensors:
            full = camera_name(model.name, name, sensor.name)
            if isinstance(sensor.spec, CameraSpec):
                self._camera(body, full, sensor.pose, sensor.spec)
            else:
                _add(body, "site", name=full, size="0.001", group="5", **_place(sensor.pose))
        for below in model.joints.values():
            if below.parent == name:
                self._link(body, model, below.child, here, below)

    def _camera(self, body: ET.Element, name: str, pose: Pose, spec: CameraSpec) -> None:
        vertical = 2 * math.atan(math.tan(spec.horizontal_fov / 2) * spec.height / spec.width)
        place = _place(pose @ OPTICAL @ CAMERA_OF_OPTICAL)
        # MJCF has this one angle in degrees, whatever the compiler's setting.
        _add(body, "camera", name=name, fovy=f"{math.degrees(vertical):.12g}", **place)

    def _joint(self, body: ET.Element, model: Model, joint: Joint) -> None:
        if joint.kind == "fixed":
            return
        kinds = {"revolute": "hinge", "prismatic": "slide", "ball": "ball"}
        driven = joint.name in {servo.joint for servo in model.servos} and joint.kind == "revolute"
        made = _add(
            body,
            "joint",
            name=f"{model.name}/{joint.name}",
            type=kinds[joint.kind],
            pos=_numbers(joint.pose[:3, 3]),
            damping=f"{joint.damping:g}",
            frictionloss=f"{joint.friction:g}",
            armature=str(ROTOR_INERTIA if driven else SMALL_INERTIA),
        )
        if joint.kind != "ball":
            made.set("axis", _numbers(joint.axis))
        if np.isfinite(joint.lower) and np.isfinite(joint.upper):
            made.set("range", _numbers((joint.lower, joint.upper)))

    def _inertial(self, body: ET.Element, link: Link) -> None:
        inertial = link.inertial
        turn = inertial.pose[:3, :3]
        m = turn @ inertial.inertia @ turn.T
        full = _numbers((m[0, 0], m[1, 1], m[2, 2], m[0, 1], m[0, 2], m[1, 2]))
        place = _numbers(inertial.pose[:3, 3])
        _add(body, "inertial", pos=place, mass=f"{inertial.mass:.9g}", fullinertia=full)

    def _visual(self, body: ET.Element, model: Model, link: Link, visual: Visual) -> None:
        name = f"{model.name}/{link.name}/v/{visual.name}"
        look = {"group": VISUAL, "contype": "0", "conaffinity": "0", "rgba": _numbers(visual.rgba)}
        _add(body, "geom", name=name, **look, **self._shape(visual.shape, visual.pose))

    def _collision(self, body: ET.Element, model: Model, link: Link, collision: Collision) -> None:
        touch = {"group": COLLISION, "friction": f"{collision.friction:g} 0.005 0.0001"}
        if collision.friction == 0:
            touch |= {"condim": "1", "priority": "1"}
        elif collision.torsional is not None:
            touch |= {"condim": "4", "priority": "1"}
            touch["friction"] = f"{collision.friction:g} {collision.torsional:g} 0.0001"
        name = f"{model.name}/{link.name}/c/{collision.name}"
        _add(body, "geom", name=name, **touch, **self._shape(collision.shape, collision.pose))

    def _shape(self, shape: Shape, pose: Pose) -> dict[str, str]:
        if isinstance(shape, Box):
            return {"type": "box", "size": _numbers(edge / 2 for edge in shape.size), **_place(pose)}
        if isinstance(shape, Sphere):
            return {"type": "sphere", "size": f"{shape.radius:.9g}", **_place(pose)}
        if isinstance(shape, Cylinder):
            kind = "capsule" if shape.capsule else "cylinder"
            return {"type": kind, "size": _numbers((shape.radius, shape.length / 2)), **_place(pose)}
        if isinstance(shape, Plane):
            size = f"{_numbers(edge / 2 for edge in shape.size)} {PLANE_THICKNESS}"
            return {"type": "plane", "size": size, **_place(pose @ z_onto(shape.normal))}
        if shape not in self._meshes:
            self._meshes[shape] = f"mesh_{len(self._meshes)}"
            scale = _numbers(shape.scale)
            _add(self._asset, "mesh", name=self._meshes[shape], file=str(shape.file.resolve()), scale=scale)
        return {"type": "mesh", "mesh": self._meshes[shape], **_place(pose)}

    def _drives(self, model: Model) -> None:
        for joint in (*model.drive.left, *model.drive.right) if model.drive else ():
            effort = model.joints[joint].effort
            torque = effort if np.isfinite(effort) else WHEEL_TORQUE
            _add(
                self._actuator,
                "velocity",
                name=f"{model.name}/{joint}",
                joint=f"{model.name}/{joint}",
                kv=f"{WHEEL_GAIN:g}",
                forcerange=_numbers((-torque, torque)),
            )
        for servo in model.servos:
            effort = model.joints[servo.joint].effort
            made = _add(
                self._actuator,
                "position",
                name=f"{model.name}/{servo.joint}",
                joint=f"{model.name}/{servo.joint}",
                kp=f"{servo.p_gain:.9g}",
                kv=f"{servo.d_gain:.9g}",
            )
            if np.isfinite(effort):
                made.set("forcerange", _numbers((-effort, effort)))
