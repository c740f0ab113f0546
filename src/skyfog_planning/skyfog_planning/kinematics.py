"""A URDF's links, joints and collision shapes, read and computed with numpy alone. For the checker."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from skyfog_core.errors import ConfigError
from skyfog_planning.problem import Array, Box, Cylinder, Mesh, Shape, Sphere

MOVING = ("revolute", "continuous", "prismatic")
STL_HEAD = 84
STL_TRIANGLE = 50


@dataclass(frozen=True, slots=True, eq=False)
class _Joint:
    name: str
    kind: str
    parent: int
    child: int
    origin: Array  # 4x4 in the parent
    axis: Array  # [3], unit


class Chain:
    """Links in an order in which parents come first."""

    def __init__(self, urdf: Path, mesh_root: Path) -> None:
        """Raises ConfigError that names the file and the element."""
        try:
            root = ET.parse(urdf).getroot()  # noqa: S314 - a file of the robot folder, not of a request
        except (OSError, ET.ParseError) as error:
            raise ConfigError(f"{urdf}: {error}") from None
        self._urdf = urdf
        self._joints = self._order(root)
        self.collisions: list[tuple[str, Shape, Array]] = []  # link, shape, its pose in the link
        for link in root.iter("link"):
            for collision in link.findall("collision"):
                shape = self._shape(collision, mesh_root)
                self.collisions.append((str(link.get("name")), shape, _origin(collision)))

    def _order(self, root: ET.Element) -> list[_Joint]:
        links = {str(link.get("name")) for link in root.iter("link")}
        left = [joint for joint in root.findall("joint") if joint.find("parent") is not None]
        children = {_of(joint, "child", "link") for joint in left}
        roots = sorted(links - children)
        if len(roots) != 1:
            raise ConfigError(f"{self._urdf}: its links have {len(roots)} roots")
        self.number = {roots[0]: 0}
        made: list[_Joint] = []
        while left:
            ready = [joint for joint in left if _of(joint, "parent", "link") in self.number]
            if not ready:
                raise ConfigError(f"{self._urdf}: joint {left[0].get('name')} hangs on no link")
            for joint in ready:
                child = _of(joint, "child", "link")
                self.number[child] = len(self.number)
                made.append(_joint(joint, self.number[_of(joint, "parent", "link")], self.number[child]))
                left.remove(joint)
        return made

    def _shape(self, collision: ET.Element, mesh_root: Path) -> Shape:
        geometry = collision.find("geometry")
        shape = geometry[0] if geometry is not None and len(geometry) else None
        if shape is None:
            raise ConfigError(f"{self._urdf}: a collision without a geometry")
        if shape.tag == "box":
            x, y, z = _numbers(shape.get("size", ""))
            return Box((x, y, z))
        if shape.tag == "sphere":
            return Sphere(float(shape.get("radius", "nan")))
        if shape.tag == "cylinder":
            return Cylinder(float(shape.get("length", "nan")), float(shape.get("radius", "nan")))
        if shape.tag != "mesh":
            raise ConfigError(f"{self._urdf}: a collision geometry <{shape.tag}>")
        path = mesh_root / shape.get("filename", "").removeprefix("package://")
        return read_stl(path, _numbers(shape.get("scale", "1 1 1")))

    def poses(self, positions: dict[str, Array]) -> Array:
        """Joint name -> [N] -> [N, links, 4, 4] in the base frame. A joint that is not named stands at 0."""
        count = len(next(iter(positions.values())))
        poses = np.empty((count, len(self.number), 4, 4))
        poses[:, 0] = np.eye(4)
        for joint in self._joints:
            here = poses[:, joint.parent] @ joint.origin
            if joint.kind in MOVING and joint.name in positions:
                here = here @ _motion(joint, positions[joint.name])
            poses[:, joint.child] = here
        return poses

    def fixed(self) -> list[bool]:
        """By number of link: whether it never moves."""
        still = [True] * len(self.number)
        for joint in self._joints:
            still[joint.child] = still[joint.parent] and joint.kind not in MOVING
        return still

    def radii(self, joints: tuple[str, ...], beyond_m: float) -> Array:
        """[J] m: how far any point beyond each joint can be from its axis; `beyond_m` is added at the chain's ends."""
        size = dict.fromkeys(range(len(self.number)), 0.0)
        for name, shape, pose in self.collisions:
            size[self.number[name]] = max(size[self.number[name]], _extent(shape, pose))
        reach = {link: size[link] + beyond_m for link in size}
        for joint in reversed(self._joints):
            slide = 0.1 if joint.kind == "prismatic" else 0.0
            longer = reach[joint.child] + float(np.linalg.norm(joint.origin[:3, 3])) + slide
            reach[joint.parent] = max(reach[joint.parent], longer)
        by_name = {joint.name: joint for joint in self._joints}
        return np.array([1.0 if by_name[n].kind == "prismatic" else reach[by_name[n].child] for n in joints])


def read_stl(path: Path, scale: Array) -> Mesh:
    """A binary STL as a mesh. Raises ConfigError where the file is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    count = struct.unpack_from("<I", content, 80)[0] if len(content) >= STL_HEAD else 0
    if not count or len(content) < STL_HEAD + count * STL_TRIANGLE:
        raise ConfigError(f"{path}: is not a binary STL")
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    corners = np.frombuffer(content, record, count, STL_HEAD)["corners"].reshape(-1, 3).astype(np.float64)
    vertices, indices = np.unique(corners * scale, axis=0, return_inverse=True)
    return Mesh(vertices, indices.reshape(-1, 3).astype(np.int32))


def _motion(joint: _Joint, at: Array) -> Array:
    """[N] -> [N, 4, 4]; Rodrigues' formula."""
    moved = np.broadcast_to(np.eye(4), (len(at), 4, 4)).copy()
    if joint.kind == "prismatic":
        moved[:, :3, 3] = at[:, None] * joint.axis
        return moved
    x, y, z = joint.axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sin, cos = np.sin(at)[:, None, None], np.cos(at)[:, None, None]
    moved[:, :3, :3] = np.eye(3) + sin * cross + (1 - cos) * (cross @ cross)
    return moved


def _extent(shape: Shape, pose: Array) -> float:
    """How far from the link's origin a shape ends."""
    match shape:
        case Box(size):
            own = float(np.linalg.norm(size)) / 2
        case Sphere(radius):
            own = radius
        case Cylinder(length, radius):
            own = math.hypot(length / 2, radius)
        case _:
            vertices = shape.vertices
            return float(np.linalg.norm(vertices @ pose[:3, :3].T + pose[:3, 3], axis=1).max())
    return own + float(np.linalg.norm(pose[:3, 3]))


def _joint(element: ET.Element, parent: int, child: int) -> _Joint:
    axis = element.find("axis")
    along = _numbers(axis.get("xyz", "1 0 0")) if axis is not None else np.array([1.0, 0.0, 0.0])
    long = float(np.linalg.norm(along))
    kind = str(element.get("type"))
    return _Joint(str(element.get("name")), kind, parent, child, _origin(element), along / long if long else along)


def _of(element: ET.Element, tag: str, attribute: str) -> str:
    found = element.find(tag)
    return "" if found is None else str(found.get(attribute))


def _origin(element: ET.Element) -> Array:
    """URDF's <origin>: fixed axes roll, pitch, yaw."""
    pose = np.eye(4)
    origin = element.find("origin")
    if origin is None:
        return pose
    roll, pitch, yaw = _numbers(origin.get("rpy", "0 0 0"))
    (sr, cr), (sp, cp), (sy, cy) = ((math.sin(a), math.cos(a)) for a in (roll, pitch, yaw))
    pose[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    pose[:3, 3] = _numbers(origin.get("xyz", "0 0 0"))
    return pose


def _numbers(text: str) -> Array:
    return np.array([float(word) for word in text.split()])
