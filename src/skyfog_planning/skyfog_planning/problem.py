"""What is asked of the planner and what it answers: plain data, checked here, with no robot loaded.

Poses are 4x4 float64 matrices, metres and radians, in the robot's base frame unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyfog_core.errors import SkyfogError
from skyfog_core.poses import from_quaternion

Array = NDArray[np.float64]

MAX_BODIES = 1_000
MAX_POINTS = 2_000_000
MAX_TRIANGLES = 1_000_000
EXTENT_M = 100.0  # nothing within reach of an arm is farther or larger
UNIT_SLACK = 1e-3  # of a quaternion's length


class Code(IntEnum):
    """What became of a request; the numbers of skyfog_interfaces/srv/PlanMotion."""

    SUCCESS = 0
    INVALID = 1
    START_IN_COLLISION = 2
    GOAL_IN_COLLISION = 3
    GOAL_UNREACHABLE = 4
    START_OUTSIDE_LIMITS = 5
    GOAL_OUTSIDE_LIMITS = 6
    NO_PLAN_IN_TIME = 7
    CARTESIAN_BLOCKED = 8
    WITHDRAWN = 9
    INTERNAL = 10


class PlanError(SkyfogError):
    """There is no plan; `code` says which kind of no."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return (PlanError, (self.code, str(self)))


def invalid(message: str) -> PlanError:
    """The request cannot be understood; the message names the field."""
    return PlanError(Code.INVALID, message)


@dataclass(frozen=True, slots=True)
class Box:
    """Centred in its frame; sides in metres."""

    size: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Sphere:
    """Centred in its frame."""

    radius: float


@dataclass(frozen=True, slots=True)
class Cylinder:
    """Centred in its frame, along z."""

    length: float
    radius: float


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A surface of triangles."""

    vertices: Array  # [V, 3] m
    triangles: NDArray[np.int32]  # [T, 3] indices


Shape = Box | Sphere | Cylinder | Mesh


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A rigid body of several shapes, each with its pose: in the base frame, or in the tool frame if it is carried."""

    id: str
    parts: tuple[tuple[Shape, Array], ...]


@dataclass(frozen=True, slots=True, eq=False)
class JointGoal:
    """Every arm joint by name."""

    positions: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class PoseGoal:
    """A pose of a link; "" is the tool frame."""

    pose: Array
    link: str = ""
    position_tolerance_m: float = 0.001
    orientation_tolerance_rad: float = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One request."""

    start: Mapping[str, float]
    goal: JointGoal | PoseGoal
    robot: str = "panda"
    bodies: tuple[Body, ...] = ()
    cloud: Array | None = None  # [N, 3] m
    cloud_resolution_m: float = 0.02
    attached: tuple[Body, ...] = ()
    allowed: frozenset[str] = frozenset()
    cartesian: bool = False
    velocity_scaling: float = 1.0
    acceleration_scaling: float = 1.0
    budget_s: float = 5.0
    quality: float = 0.0
    anytime: bool = False
    planner: str = ""
    seed: int = 0

    def check(self) -> None:
        """Raise PlanError(INVALID) that names the field and what is allowed."""
        for name in ("velocity_scaling", "acceleration_scaling"):
            if not 0 < getattr(self, name) <= 1:
                raise invalid(f"max_{name}: {getattr(self, name)} is not in (0, 1]")
        if not (math.isfinite(self.budget_s) and self.budget_s > 0):
            raise invalid(f"time_budget_s: {self.budget_s} is not above 0")
        if not (self.quality == 0 or (math.isfinite(self.quality) and self.quality >= 1)):
            raise invalid(f"quality: {self.quality} is neither 0 (the first plan) nor a finite factor of at least 1")
        if self.cartesian and not isinstance(self.goal, PoseGoal):
            raise invalid("cartesian: needs goal_pose; a joint goal has no straight line of the tool")
        if isinstance(self.goal, PoseGoal):
            self._check_goal(self.goal)
        self._check_scene()

    def _check_goal(self, goal: PoseGoal) -> None:
        check_pose("goal_pose", goal.pose)
        for name, value, high in (
            ("position_tolerance_m", goal.position_tolerance_m, 1.0),
            ("orientation_tolerance_rad", goal.orientation_tolerance_rad, math.pi),
        ):
            if not 0 < value <= high:
                raise invalid(f"{name}: {value} is not in (0, {high:.3g}]")

    def _check_scene(self) -> None:
        known: set[str] = set()
        if len(self.bodies) + len(self.attached) > MAX_BODIES:
            raise invalid(f"objects: {len(self.bodies) + len(self.attached)} of them, at most {MAX_BODIES}")
        for where, bodies in (("objects", self.bodies), ("attached", self.attached)):
            for body in bodies:
                if not body.id or body.id in known:
                    raise invalid(f"{where}: {'an empty id' if not body.id else f'twice the id {body.id!r}'}")
                known.add(body.id)
                if not body.parts:
                    raise invalid(f"{where}[{body.id}]: has no shape")
                for number, (shape, pose) in enumerate(body.parts):
                    check_pose(f"{where}[{body.id}] shape {number}", pose)
                    check_shape(f"{where}[{body.id}] shape {number}", shape)
        strange = sorted(self.allowed - {body.id for body in self.bodies})
        if strange:
            raise invalid(f"allowed_collisions: no object has the id {strange[0]!r}")
        if self.cloud is not None:
            self._check_cloud(self.cloud)

    def _check_cloud(self, cloud: Array) -> None:
        if not 0.001 <= self.cloud_resolution_m <= 1:
            raise invalid(f"cloud_resolution_m: {self.cloud_resolution_m} is not in [0.001, 1]")
        if len(cloud) > MAX_POINTS:
            raise invalid(f"cloud: {len(cloud)} points, at most {MAX_POINTS}")
        if not (np.abs(cloud) <= EXTENT_M).all():
            raise invalid(f"cloud: a point is farther than {EXTENT_M:g} m")


def check_pose(where: str, pose: Array) -> None:
    """A finite rigid motion within EXTENT_M."""
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise invalid(f"{where}: its pose holds a value that is not finite")
    if np.abs(pose[:3, 3]).max() > EXTENT_M:
        raise invalid(f"{where}: is farther than {EXTENT_M:g} m")


def check_shape(where: str, shape: Shape) -> None:
    """Positive, finite sizes; triangles of vertices that exist."""
    match shape:
        case Mesh(vertices, triangles):
            _check_mesh(where, vertices, triangles)
            return
        case Box(size):
            sizes = size
        case Sphere(radius):
            sizes = (radius,) * 3
        case _:
            sizes = (shape.length, shape.radius, shape.radius)
    if not all(math.isfinite(value) and 0 < value <= EXTENT_M for value in sizes):
        raise invalid(f"{where}: a {type(shape).__name__.lower()} of {sizes} m; sizes are in (0, {EXTENT_M:g}]")


def _check_mesh(where: str, vertices: Array, triangles: NDArray[np.int32]) -> None:
    if not len(triangles) or len(triangles) > MAX_TRIANGLES:
        raise invalid(f"{where}: a mesh of {len(triangles)} triangles; 1 to {MAX_TRIANGLES}")
    if not (np.abs(vertices) <= EXTENT_M).all():
        raise invalid(f"{where}: a vertex is not within {EXTENT_M:g} m")
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise invalid(f"{where}: a triangle names vertex {int(triangles.max())} of {len(vertices)}")


def pose_of(position: tuple[float, float, float], quaternion: tuple[float, float, float, float]) -> Array:
    """Position and quaternion (x, y, z, w) -> 4x4. All zeros, as a message not filled in has, is no rotation.

    Raises PlanError(INVALID) for a quaternion that is not of unit length.
    """
    x, y, z, w = quaternion
    length = math.sqrt(x * x + y * y + z * z + w * w)
    if length == 0:
        w, length = 1.0, 1.0
    if not abs(length - 1) <= UNIT_SLACK:
        raise invalid(f"orientation: the quaternion has length {length:.4g}, not 1")
    return from_quaternion(position, (w, x, y, z))


def translation(x: float, y: float, z: float) -> Array:
    """A pose without rotation."""
    pose = np.eye(4)
    pose[:3, 3] = (x, y, z)
    return pose


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Way-points of the arm's joints over time."""

    joints: tuple[str, ...]
    times: Array  # [N] s, from 0
    positions: Array  # [N, J] rad
    velocities: Array  # [N, J] rad/s
    accelerations: Array  # [N, J] rad/s^2


@dataclass(frozen=True, slots=True)
class Stages:
    """Milliseconds a stage; summed over attempts."""

    ik_ms: float = 0.0
    plan_ms: float = 0.0
    smooth_ms: float = 0.0
    timing_ms: float = 0.0
    check_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A trajectory that passed the independent check."""

    trajectory: Trajectory
    path_length_rad: float
    min_clearance_m: float
    planner: str
    iterations: int
    seed: int
    stages: Stages = field(default_factory=Stages)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running request is."""

    best_path_length_rad: float  # inf while there is none
    iterations: int
    elapsed_s: float


def path_length(positions: Array) -> float:
    """[N, J] -> Euclidean length in rad."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())
