"""The last word on a trajectory: collisions along it, limits, and that it does what was asked.

Nothing of the planner is used: kinematics are read from the URDF and computed here with numpy, meshes are read from
their files here, every pair of shapes that may meet is asked one by one. What the two halves do share is plain data:
`problem.py` (the request) and `robots.py` (the robot folder).

Between two samples no point of robot or load moves more than STEP_M: a point at distance r from a joint's axis moves at
most r times the joint's angle, and r is at most the length of the chain beyond the joint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import coal
import numpy as np

from skyfog_planning.kinematics import Chain
from skyfog_planning.problem import (
    Array,
    Body,
    Box,
    Cylinder,
    Mesh,
    PoseGoal,
    Problem,
    Shape,
    Sphere,
    Trajectory,
)
from skyfog_planning.robots import Robot

STEP_M = 0.01
CLEARANCE_STEP_M = 0.05  # the smallest distance is looked for at these steps
SLACK = 1e-6  # of limits, for rounding
SAME_RAD = 1e-4  # the way-points' velocities against their positions, a sample interval apart
ENDS_RAD = 1e-6


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found; `problems` is empty where the trajectory may be executed."""

    problems: tuple[str, ...]
    min_clearance_m: float  # inf where there is nothing to meet

    @property
    def passed(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One shape: of a link, of the load, or of the surroundings."""

    name: str
    link: int  # -1: does not move
    pose: Array  # in the link, or in the base frame
    shape: Any  # Coal's
    centre: Array  # [3] of a ball around it, in the link or in the base frame
    radius: float
    low: Array  # [3] of a box around it, in the frame of `pose`'s parent
    high: Array
    carried: bool = False


class Checker:
    """Checks trajectories of one robot. Reads its files once."""

    def __init__(self, robot: Robot) -> None:
        """Raises ConfigError for what cannot be read of the URDF or of a mesh."""
        self._robot = robot
        self._chain = Chain(robot.urdf, robot.mesh_root)
        self._links = [
            _part(name, self._chain.number[name], shape, pose) for name, shape, pose in self._chain.collisions
        ]
        self._tool = self._chain.number[robot.spec.tool.parent]
        self._tool_pose = np.eye(4)
        self._tool_pose[:3, 3] = robot.spec.tool.xyz
        self._never = {frozenset(pair) for pair in robot.spec.never_collide}

    def check(self, problem: Problem, trajectory: Trajectory) -> Verdict:
        """Every fault found, each kind once."""
        faults = self._limits(problem, trajectory) + self._ends(problem, trajectory)
        if faults:
            return Verdict(tuple(faults), math.nan)
        samples, apart = self._samples(problem, trajectory)
        parts, pairs = self._pairs(problem)
        poses = self._chain.poses(self._named(problem, samples))
        hit = self._first_contact(parts, pairs, poses)
        if hit is not None:
            when, first, second = hit
            return Verdict((f"{first} touches {second} at {apart[when]:.2f} of the way",), 0.0)
        return Verdict((), self._clearance(problem, parts, pairs, poses))

    def touching(self, problem: Problem, positions: Array) -> tuple[str, str] | None:
        """Two that touch at one configuration [J], or None."""
        parts, pairs = self._pairs(problem)
        hit = self._first_contact(parts, pairs, self._chain.poses(self._named(problem, positions[None])))
        return None if hit is None else hit[1:]

    def tool_pose(self, problem: Problem, positions: Array, link: str = "") -> Array:
        """4x4 of the tool frame or a link at one configuration [J]."""
        poses = self._chain.poses(self._named(problem, positions[None]))[0]
        if link and link != self._robot.spec.tool.name:
            found: Array = poses[self._chain.number[link]]
            return found
        tool: Array = poses[self._tool] @ self._tool_pose
        return tool

    def _named(self, problem: Problem, arm: Array) -> dict[str, Array]:
        """Joint name -> [N] positions."""
        others = self._robot.other_positions(dict(problem.start))
        count = len(arm)
        return {name: np.full(count, at) for name, at in others.items()} | dict(
            zip(self._robot.joints, arm.T, strict=True)
        )

    def _limits(self, problem: Problem, t: Trajectory) -> list[str]:
        robot = self._robot
        if t.joints != robot.joints or not len(t.times) >= 2:
            return [f"{len(t.times)} way-points of {', '.join(t.joints)}"]
        shape = (len(t.times), len(robot.joints))
        if not all(np.shape(one) == shape for one in (t.positions, t.velocities, t.accelerations)):
            return ["positions, velocities and accelerations differ in shape"]
        if not all(np.isfinite(one).all() for one in (t.times, t.positions, t.velocities, t.accelerations)):
            return ["a value is not finite"]
        steps = np.diff(t.times)
        if t.times[0] != 0 or not (steps > 0).all():
            return ["times do not rise from 0"]
        speed = robot.velocity * problem.velocity_scaling * (1 + SLACK)
        push = robot.acceleration * problem.acceleration_scaling * (1 + SLACK)
        faults = []
        outside = (t.positions < robot.lower - SLACK) | (t.positions > robot.upper + SLACK)
        mean = np.diff(t.positions, axis=0) / steps[:, None]
        trapezoid = (t.velocities[1:] + t.velocities[:-1]) / 2 * steps[:, None]
        bend = push * steps[:, None] ** 2 / 2 + SAME_RAD
        for what, wrong in (
            ("position limit", outside),
            ("velocity limit", np.abs(t.velocities) > speed),
            ("velocity limit between way-points", np.abs(mean) > speed),
            ("acceleration limit", np.abs(t.accelerations) > push),
            ("velocities do not fit positions", np.abs(np.diff(t.positions, axis=0) - trapezoid) > bend),
        ):
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                faults.append(f"{robot.joints[column]}: {what}, way-point {row} of {len(t.times)}")
        return faults

    def _ends(self, problem: Problem, t: Trajectory) -> list[str]:
        faults = []
        start = np.array([problem.start[name] for name in self._robot.joints])
        if np.abs(t.positions[0] - start).max() > ENDS_RAD:
            faults.append("does not begin at the start")
        if np.abs(t.velocities[[0, -1]]).max() > ENDS_RAD:
            faults.append("is not at rest at its ends")
        goal = problem.goal
        if isinstance(goal, PoseGoal):
            got = self.tool_pose(problem, t.positions[-1], goal.link)
            far = float(np.linalg.norm(got[:3, 3] - goal.pose[:3, 3]))
            turned = _angle(got[:3, :3].T @ goal.pose[:3, :3])
            if far > goal.position_tolerance_m or turned > goal.orientation_tolerance_rad:
                faults.append(f"ends {far * 1000:.2f} mm and {turned:.4f} rad from the goal")
        else:
            wanted = np.array([goal.positions[name] for name in self._robot.joints])
            if np.abs(t.positions[-1] - wanted).max() > ENDS_RAD:
                faults.append("does not end at the goal")
        return faults

    def _samples(self, problem: Problem, t: Trajectory) -> tuple[Array, Array]:
        """[N, J] configurations along the path, no point moving more than STEP_M between two; [N] share of the time."""
        load = max((_reach(body) for body in problem.attached), default=0.0)
        radii = self._chain.radii(self._robot.joints, load + float(np.linalg.norm(self._tool_pose[:3, 3])))
        moves = np.abs(np.diff(t.positions, axis=0)) @ radii  # [N-1] m at most
        reach = np.concatenate([[0.0], np.cumsum(moves)])
        at = np.linspace(0.0, reach[-1], max(1, math.ceil(reach[-1] / STEP_M)) + 1)
        samples = np.stack([np.interp(at, reach, column) for column in t.positions.T], axis=1)
        return samples, np.interp(at, reach, t.times) / t.times[-1]

    def _pairs(self, problem: Problem) -> tuple[list[_Part], list[tuple[int, int]]]:
        """All parts, and which of them may not meet."""
        parts = list(self._links)
        load = [
            _part(body.id, self._tool, shape, self._tool_pose @ pose, carried=True)
            for body in problem.attached
            for shape, pose in body.parts
        ]
        things = [_part(body.id, -1, shape, pose) for body in problem.bodies for shape, pose in body.parts]
        if problem.cloud is not None and len(problem.cloud):
            things.append(_cloud_part(problem.cloud, problem.cloud_resolution_m))
        tool_links = set(self._robot.spec.tool_links)
        parts += load + things
        fixed = self._chain.fixed()
        pairs = []
        for i, a in enumerate(parts):
            for j in range(i + 1, len(parts)):
                b = parts[j]
                if a.link < 0 or (a.carried and b.carried):
                    continue
                if b.link < 0:
                    touches = (a.carried or a.name in tool_links) and b.name in problem.allowed
                    if not touches and not (fixed[a.link] and not a.carried):
                        pairs.append((i, j))
                elif b.carried:
                    if a.name not in tool_links:
                        pairs.append((i, j))
                elif a.name != b.name and frozenset((a.name, b.name)) not in self._never:
                    pairs.append((i, j))
        return parts, pairs

    def _first_contact(
        self, parts: list[_Part], pairs: list[tuple[int, int]], poses: Array
    ) -> tuple[int, str, str] | None:
        """The first sample at which two touch, with their names."""
        if not pairs:
            return None
        near = _gaps(parts, pairs, poses) <= 0
        request = coal.CollisionRequest()
        for sample, number in np.argwhere(near):
            i, j = pairs[number]
            result = coal.CollisionResult()
            places = _place(parts[i], poses[sample]), _place(parts[j], poses[sample])
            coal.collide(parts[i].shape, places[0], parts[j].shape, places[1], request, result)
            if result.isCollision():
                return int(sample), parts[i].name, parts[j].name
        return None

    def _clearance(self, problem: Problem, parts: list[_Part], pairs: list[tuple[int, int]], poses: Array) -> float:
        """The smallest distance from the surroundings, at every few samples."""
        outside = [(i, j) for i, j in pairs if parts[j].link < 0]
        if not outside:
            return math.inf
        poses = poses[:: max(1, round(CLEARANCE_STEP_M / STEP_M))]
        gaps = _gaps(parts, outside, poses)
        best = math.inf
        request = coal.DistanceRequest()
        for flat in np.argsort(gaps, axis=None):
            sample, number = divmod(int(flat), len(outside))
            if gaps[sample, number] >= best:
                break
            i, j = outside[number]
            places = _place(parts[i], poses[sample]), _place(parts[j], poses[sample])
            found = coal.distance(parts[i].shape, places[0], parts[j].shape, places[1], request, coal.DistanceResult())
            best = min(best, float(found))
        return max(best, 0.0)


def _gaps(parts: list[_Part], pairs: list[tuple[int, int]], poses: Array) -> Array:
    """[N, pairs] m: at most the distance of each pair, from balls around what moves and boxes around what does not."""
    balls = {}
    for i in {i for pair in pairs for i in pair if parts[i].link >= 0}:
        at = poses[:, parts[i].link]
        balls[i] = at[:, :3, :3] @ parts[i].centre + at[:, :3, 3]
    gaps = np.empty((len(poses), len(pairs)))
    for number, (i, j) in enumerate(pairs):
        if parts[j].link < 0:
            away = np.maximum(np.maximum(parts[j].low - balls[i], balls[i] - parts[j].high), 0.0)
            gaps[:, number] = np.linalg.norm(away, axis=1) - parts[i].radius
        else:
            gaps[:, number] = np.linalg.norm(balls[i] - balls[j], axis=1) - parts[i].radius - parts[j].radius
    return gaps


def _place(part: _Part, poses: Array) -> Any:
    at = part.pose if part.link < 0 else poses[part.link] @ part.pose
    return coal.Transform3s(at[:3, :3], at[:3, 3])


def _part(name: str, link: int, shape: Shape, pose: Array, carried: bool = False) -> _Part:
    points, margin = _outline(shape)
    placed = points @ pose[:3, :3].T + pose[:3, 3]
    low, high = placed.min(axis=0) - margin, placed.max(axis=0) + margin
    centre = (low + high) / 2
    radius = float(np.linalg.norm(placed - centre, axis=1).max()) + margin
    return _Part(name, link, pose, _coal(shape), centre, radius, low, high, carried)


def _cloud_part(cloud: Array, resolution_m: float) -> _Part:
    tree = coal.makeOctree(np.ascontiguousarray(cloud), resolution_m)
    low, high = cloud.min(axis=0) - resolution_m, cloud.max(axis=0) + resolution_m
    return _Part("cloud", -1, np.eye(4), tree, (low + high) / 2, float(np.linalg.norm(high - low) / 2), low, high)


def _outline(shape: Shape) -> tuple[Array, float]:
    """[N, 3] points whose hull, grown by the margin, holds the shape."""
    match shape:
        case Box(size):
            return np.array(np.meshgrid(*([-side / 2, side / 2] for side in size))).reshape(3, -1).T, 0.0
        case Sphere(radius):
            return np.zeros((1, 3)), radius
        case Cylinder(length, radius):
            sides = [[-radius, radius], [-radius, radius], [-length / 2, length / 2]]
            return np.array(np.meshgrid(*sides)).reshape(3, -1).T, 0.0
        case Mesh(vertices, _):
            return vertices, 0.0


def _coal(shape: Shape) -> Any:
    match shape:
        case Box(size):
            return coal.Box(np.array(size))
        case Sphere(radius):
            return coal.Sphere(radius)
        case Cylinder(length, radius):
            return coal.Cylinder(radius, length)
        case Mesh(vertices, triangles):
            mesh = coal.BVHModelOBBRSS()
            mesh.beginModel(len(triangles), 3 * len(triangles))
            for a, b, c in vertices[triangles]:
                mesh.addTriangle(a, b, c)
            mesh.endModel()
            return mesh


def _reach(body: Body) -> float:
    """How far from the tool frame a carried body ends."""
    ends = []
    for shape, pose in body.parts:
        points, margin = _outline(shape)
        ends.append(float(np.linalg.norm(points @ pose[:3, :3].T + pose[:3, 3], axis=1).max()) + margin)
    return max(ends)


def _angle(rotation: Array) -> float:
    """Of a rotation matrix; exact near 0, where the trace is not."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    return math.atan2(float(np.linalg.norm(axis)) / 2, (float(np.trace(rotation)) - 1) / 2)
