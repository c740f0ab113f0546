"""The planner's own view of robot and scene: Pinocchio for kinematics, Coal for collisions.

The checker (`check.py`) shares no code with this file, on purpose: what one gets wrong the other must notice.

A link is either the convex hull of its mesh (`hulls`) or the spheres of a second URDF (`spheres`). The Panda's meshes
are convex already. Only pairs whose boxes overlap are looked at: 5 us a check of the Panda in a shelf of 8 boxes, where
asking every pair takes 40 us.
"""

from __future__ import annotations

from typing import Any

import coal
import numpy as np
import pinocchio as pin

from skyfog_core.errors import ConfigError
from skyfog_planning.options import Geometry
from skyfog_planning.problem import (
    Array,
    Body,
    Box,
    Code,
    Cylinder,
    JointGoal,
    Mesh,
    PlanError,
    Problem,
    Shape,
    Sphere,
    invalid,
)
from skyfog_planning.robots import Robot

MANY_OBJECTS = 60  # above it a tree over the objects is faster than a list


class ArmModel:
    """A robot, loaded: kinematics, and its links' geometry. Read-only after construction, but for `data`."""

    def __init__(self, robot: Robot) -> None:
        """Raises ConfigError where the URDF does not fit the robot folder."""
        self.robot = robot
        self.model = pin.buildModelFromUrdf(str(robot.urdf))
        for joint in (*robot.joints, *robot.spec.others):
            if not self.model.existJointName(joint):
                raise ConfigError(f"{robot.urdf}: has no joint {joint!r}")
        tool = robot.spec.tool
        if not self.model.existFrame(tool.parent):
            raise ConfigError(f"{robot.urdf}: has no link {tool.parent!r}")
        parent = self.model.getFrameId(tool.parent)
        base = self.model.frames[parent]
        placement = base.placement * pin.SE3(np.eye(3), np.array(tool.xyz))
        frame = pin.Frame(tool.name, base.parentJoint, parent, placement, pin.FrameType.OP_FRAME)
        self.tool_id = int(self.model.addFrame(frame))
        self.data = self.model.createData()
        self.arm_index = np.array([self.model.joints[self.model.getJointId(name)].idx_q for name in robot.joints])
        self.arm_column = np.array([self.model.joints[self.model.getJointId(name)].idx_v for name in robot.joints])
        self._links: dict[str, list[pin.GeometryObject]] = {"hulls": _hulls(self.model, robot)}
        if robot.spheres_urdf is not None:
            self._links["spheres"] = _spheres(self.model, robot)
        # Pairs of links whose spheres overlap at rest: no sphere model is as thin as its links.
        self.overlapping: frozenset[frozenset[str]] = frozenset()
        if robot.spheres_urdf is not None:
            ready = dict(zip(robot.joints, robot.spec.ready, strict=True))
            rest = Scene(self, Problem(start=ready, goal=JointGoal(ready)), "spheres")
            pairs = rest.touching(np.array(robot.spec.ready))
            self.overlapping = frozenset(frozenset(pair.split(" with ")) for pair in pairs)

    def links(self, geometry: Geometry) -> list[pin.GeometryObject]:
        """The links' collision geometry."""
        if geometry not in self._links:
            raise ConfigError(f"robot {self.robot.name}: has no {geometry}")
        return self._links[geometry]

    def full(self, others: dict[str, float]) -> Array:
        """A configuration of the whole model with the arm at 0 and the other joints as given."""
        q: Array = np.array(pin.neutral(self.model))
        for name, position in others.items():
            q[self.model.joints[self.model.getJointId(name)].idx_q] = position
        return q

    def frame_id(self, link: str) -> int:
        """The frame of a link by its name; the tool's for an empty one. Raises PlanError(INVALID)."""
        if not link:
            return self.tool_id
        if not self.model.existFrame(link):
            raise invalid(f"goal_link: {self.robot.name} has no link {link!r}")
        return int(self.model.getFrameId(link))


def _hulls(model: Any, robot: Robot) -> list[pin.GeometryObject]:
    urdf = str(robot.urdf)
    read = pin.buildGeomFromUrdf(model, urdf, pin.GeometryType.COLLISION, package_dirs=[str(robot.mesh_root)])
    made = []
    for link in read.geometryObjects:
        shape = link.geometry
        if isinstance(shape, coal.BVHModelBase):
            shape.buildConvexHull(True, "Qt")
            shape = shape.convex
        made.append(pin.GeometryObject(link.name, link.parentJoint, link.parentFrame, link.placement, shape))
    return made


def _spheres(model: Any, robot: Robot) -> list[pin.GeometryObject]:
    urdf, roots = str(robot.spheres_urdf), [str(robot.mesh_root)]
    own = pin.buildModelFromUrdf(urdf)
    read = pin.buildGeomFromUrdf(own, urdf, pin.GeometryType.COLLISION, package_dirs=roots)
    made = []
    for link in read.geometryObjects:
        name = own.frames[link.parentFrame].name  # the two URDFs may number their frames differently
        if not model.existFrame(name):
            raise ConfigError(f"{urdf}: link {name!r} is not in {robot.urdf}")
        frame = model.frames[model.getFrameId(name)]
        made.append(
            pin.GeometryObject(link.name, frame.parentJoint, model.getFrameId(name), link.placement, link.geometry)
        )
    return made


class Scene:
    """Robot, load and surroundings of one request."""

    def __init__(self, arm: ArmModel, problem: Problem, geometry: Geometry, margin_m: float = 0.0) -> None:
        """`margin_m`: what is nearer than this counts as touching."""
        self.arm = arm
        self.checks = 0
        self._names: list[str] = []  # of links and objects, by geometry
        self._geometry = pin.GeometryModel()
        others = arm.robot.other_positions(dict(problem.start))
        self._q = arm.full(others)
        self._index = arm.arm_index
        self._overlapping = arm.overlapping if geometry == "spheres" else frozenset()
        groups = self._fill(problem, geometry)
        self._pair(groups, problem.allowed)
        self._data = arm.model.createData()
        self._geometry_data = self._geometry.createData()
        for request in self._geometry_data.collisionRequests:
            request.security_margin = margin_m
        few = len(groups["objects"]) <= MANY_OBJECTS or problem.cloud is not None
        manager = (
            pin.BroadPhaseManager_NaiveCollisionManager
            if few
            else pin.BroadPhaseManager_DynamicAABBTreeArrayCollisionManager
        )
        self._manager = manager(arm.model, self._geometry, self._geometry_data)

    def valid(self, positions: Any) -> bool:
        """[J] rad -> whether nothing touches."""
        self.checks += 1
        q = self._q
        q[self._index] = positions
        return not pin.computeCollisions(self.arm.model, self._data, self._manager, q, True)

    def touching(self, positions: Array) -> list[str]:
        """What touches what, such as `panda_hand with shelf`; each pair once."""
        self._q[self._index] = positions
        pin.computeCollisions(self.arm.model, self._data, self._geometry, self._geometry_data, self._q, False)
        pairs = zip(self._geometry.collisionPairs, self._geometry_data.collisionResults, strict=True)
        found = [f"{self._names[p.first]} with {self._names[p.second]}" for p, result in pairs if result.isCollision()]
        return list(dict.fromkeys(found))

    def _fill(self, problem: Problem, geometry: Geometry) -> dict[str, list[int]]:
        """Add every shape; returns the numbers of what belongs together."""
        model, tool = self.arm.model, self.arm.model.frames[self.arm.tool_id]
        groups: dict[str, list[int]] = {"links": [], "load": [], "objects": []}
        for link in self.arm.links(geometry):
            groups["links"].append(self._add(model.frames[link.parentFrame].name, link.copy()))
        for body in problem.attached:
            for shape, pose in body.parts:
                at = tool.placement * pin.SE3(pose)
                groups["load"].append(self._add(body.id, self._object(tool.parentJoint, at, to_coal(shape))))
        for body in problem.bodies:
            for shape, pose in body.parts:
                groups["objects"].append(self._add(body.id, self._object(0, pin.SE3(pose), to_coal(shape))))
        if problem.cloud is not None and len(problem.cloud):
            tree = coal.makeOctree(np.ascontiguousarray(problem.cloud), problem.cloud_resolution_m)
            groups["objects"].append(self._add("cloud", self._object(0, pin.SE3.Identity(), tree)))
        return groups

    def _object(self, joint: int, placement: pin.SE3, shape: Any) -> pin.GeometryObject:
        return pin.GeometryObject(f"part{len(self._names)}", joint, placement, shape)

    def _add(self, name: str, part: pin.GeometryObject) -> int:
        part.name = f"{len(self._names)}:{name}"  # unique, as Pinocchio wants it
        self._names.append(name)
        return int(self._geometry.addGeometryObject(part))

    def _pair(self, groups: dict[str, list[int]], allowed: frozenset[str]) -> None:
        spec, names = self.arm.robot.spec, self._names
        never = {frozenset(pair) for pair in spec.never_collide} | self._overlapping
        moves = {i: self._geometry.geometryObjects[i].parentJoint != 0 for i in groups["links"]}
        pairs = []
        for a in groups["links"]:
            pairs += [(a, b) for b in groups["links"] if b > a and names[a] != names[b]
                      and frozenset((names[a], names[b])) not in never]  # fmt: skip
            pairs += [(a, b) for b in groups["load"] if names[a] not in spec.tool_links]
            if moves[a]:  # a fixed base stands where it stands
                pairs += [
                    (a, b) for b in groups["objects"] if not (names[a] in spec.tool_links and names[b] in allowed)
                ]
        pairs += [(a, b) for a in groups["load"] for b in groups["objects"] if names[b] not in allowed]
        for first, second in pairs:
            self._geometry.addCollisionPair(pin.CollisionPair(first, second))


def to_coal(shape: Shape) -> Any:
    """The shape as Coal's."""
    match shape:
        case Box(size):
            return coal.Box(*size)
        case Sphere(radius):
            return coal.Sphere(radius)
        case Cylinder(length, radius):
            return coal.Cylinder(radius, length)
        case Mesh(vertices, triangles):
            surface = coal.BVHModelOBBRSS()
            surface.beginModel(len(triangles), len(vertices))
            surface.addVertices(np.ascontiguousarray(vertices))
            surface.addTriangles(np.ascontiguousarray(triangles, dtype=np.int64))
            surface.endModel()
            return surface


def collision(code: Code, where: str, pairs: list[str]) -> PlanError:
    """The error that names what touches what."""
    more = f" and {len(pairs) - 5} more" if len(pairs) > 5 else ""
    return PlanError(code, f"{where}: {', '.join(pairs[:5])}{more} touch")


def body_of(identity: str, *parts: tuple[Shape, Array]) -> Body:
    """A body of the given shapes."""
    return Body(identity, parts)
