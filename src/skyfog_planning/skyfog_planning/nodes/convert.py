"""Between the messages of PlanMotion and plain problems and plans."""

from __future__ import annotations

import math
import secrets
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from sensor_msgs.msg import PointField
from shape_msgs.msg import SolidPrimitive
from trajectory_msgs.msg import JointTrajectoryPoint

from skyfog_core.errors import Status
from skyfog_planning.problem import (
    Array,
    Body,
    Box,
    Code,
    Cylinder,
    JointGoal,
    Mesh,
    Plan,
    PlanError,
    PoseGoal,
    Problem,
    Shape,
    Sphere,
    Trajectory,
    invalid,
    pose_of,
)

# At fault is the request itself, so that another replica would say the same.
OF_THE_REQUEST = (Code.INVALID, Code.START_IN_COLLISION, Code.START_OUTSIDE_LIMITS, Code.GOAL_OUTSIDE_LIMITS)
SEED_BITS = 63


def problem_of(request: Any, default_budget_s: float, max_budget_s: float) -> Problem:
    """A PlanMotion request (of the service or the action) as a problem. Raises PlanError(INVALID)."""
    scaling = {
        name: 1.0 if getattr(request, f"max_{name}") == 0 else float(getattr(request, f"max_{name}"))
        for name in ("velocity_scaling", "acceleration_scaling")
    }
    if not request.time_budget_s >= 0:
        raise invalid(f"time_budget_s: {request.time_budget_s} is below 0")
    return Problem(
        start=_joints("start", request.start),
        goal=_goal(request),
        robot=request.robot,
        bodies=tuple(_body("objects", one) for one in request.objects),
        cloud=points_of(request.cloud),
        cloud_resolution_m=float(request.cloud_resolution_m) or 0.02,
        attached=tuple(_body("attached", one) for one in request.attached),
        allowed=frozenset(request.allowed_collisions),
        cartesian=request.cartesian,
        budget_s=min(float(request.time_budget_s) or default_budget_s, max_budget_s),
        quality=float(request.quality),
        anytime=request.anytime,
        planner=request.planner,
        seed=int(request.seed) or 1 + secrets.randbits(SEED_BITS),
        **scaling,
    )


def _goal(request: Any) -> JointGoal | PoseGoal:
    if len(request.goal_joints.name) or len(request.goal_joints.position):
        return JointGoal(_joints("goal_joints", request.goal_joints))
    return PoseGoal(
        _pose("goal_pose", request.goal_pose),
        request.goal_link,
        float(request.position_tolerance_m),
        float(request.orientation_tolerance_rad),
    )


def _joints(where: str, state: Any) -> dict[str, float]:
    if len(state.name) != len(state.position):
        raise invalid(f"{where}: {len(state.name)} names and {len(state.position)} positions")
    if len(set(state.name)) != len(state.name):
        raise invalid(f"{where}: a joint is named twice")
    return {name: float(position) for name, position in zip(state.name, state.position, strict=True)}


def _pose(where: str, pose: Any) -> Array:
    position, turn = pose.position, pose.orientation
    try:
        return pose_of((position.x, position.y, position.z), (turn.x, turn.y, turn.z, turn.w))
    except PlanError as error:
        raise invalid(f"{where}: {error}") from None


def _body(where: str, message: Any) -> Body:
    here = f"{where}[{message.id}]"
    for what, places in (("primitives", "primitive_poses"), ("meshes", "mesh_poses")):
        if len(getattr(message, what)) != len(getattr(message, places)):
            raise invalid(f"{here}: {len(getattr(message, what))} {what} and {len(getattr(message, places))} {places}")
    shapes = [_primitive(here, one) for one in message.primitives] + [_mesh(here, one) for one in message.meshes]
    poses = [_pose(here, one) for one in (*message.primitive_poses, *message.mesh_poses)]
    own = _pose(here, message.pose)
    return Body(message.id, tuple((shape, own @ pose) for shape, pose in zip(shapes, poses, strict=True)))


def _primitive(where: str, message: Any) -> Shape:
    sizes = [float(size) for size in message.dimensions]
    wanted = {SolidPrimitive.BOX: 3, SolidPrimitive.SPHERE: 1, SolidPrimitive.CYLINDER: 2}.get(message.type)
    if wanted is None:
        raise invalid(f"{where}: a primitive of type {message.type}; there are BOX 1, SPHERE 2, CYLINDER 3")
    if len(sizes) != wanted:
        raise invalid(f"{where}: a primitive of type {message.type} with {len(sizes)} dimensions, not {wanted}")
    if message.type == SolidPrimitive.BOX:
        return Box((sizes[0], sizes[1], sizes[2]))
    if message.type == SolidPrimitive.SPHERE:
        return Sphere(sizes[0])
    return Cylinder(length=sizes[SolidPrimitive.CYLINDER_HEIGHT], radius=sizes[SolidPrimitive.CYLINDER_RADIUS])


def _mesh(where: str, message: Any) -> Mesh:
    vertices = np.array([(point.x, point.y, point.z) for point in message.vertices], np.float64).reshape(-1, 3)
    triangles = np.array([one.vertex_indices for one in message.triangles], np.int64).reshape(-1, 3)
    if (triangles >= len(vertices)).any():  # before they are made smaller
        raise invalid(f"{where}: a triangle names vertex {int(triangles.max())} of {len(vertices)}")
    return Mesh(vertices, triangles.astype(np.int32))


def points_of(cloud: Any) -> Array | None:
    """[N, 3] m of a sensor_msgs/PointCloud2, without those that are not finite; None for an empty one."""
    count = cloud.width * cloud.height
    if not count:
        return None
    offsets = {field.name: field.offset for field in cloud.fields if field.datatype == PointField.FLOAT32}
    absent = [axis for axis in "xyz" if axis not in offsets]
    if absent:
        raise invalid(f"cloud: has no float32 field {absent[0]!r}")
    if any(offsets[axis] + 4 > cloud.point_step for axis in "xyz") or cloud.row_step < cloud.width * cloud.point_step:
        raise invalid(f"cloud: point_step {cloud.point_step} or row_step {cloud.row_step} is too small for its fields")
    if len(cloud.data) < cloud.height * cloud.row_step:
        raise invalid(f"cloud: {len(cloud.data)} bytes for {cloud.height} rows of {cloud.row_step}")
    kind = np.dtype(np.float32).newbyteorder(">" if cloud.is_bigendian else "<")
    places = [offsets[axis] for axis in "xyz"]
    record = np.dtype({"names": list("xyz"), "formats": [kind] * 3, "offsets": places, "itemsize": cloud.point_step})
    rows = np.ndarray((cloud.height, cloud.width), record, bytes(cloud.data), 0, (cloud.row_step, cloud.point_step))
    points = np.stack([rows[axis].astype(np.float64).ravel() for axis in "xyz"], axis=1)
    return np.asarray(points[np.isfinite(points).all(axis=1)])


def fill(response: Any, plan: Plan) -> None:
    """Write a plan into a response or an action's result."""
    response.status.code = int(Status.OK)
    response.code = int(Code.SUCCESS)
    write_trajectory(response.trajectory, plan.trajectory)
    response.path_length_rad = plan.path_length_rad
    response.min_clearance_m = plan.min_clearance_m
    response.planner = plan.planner
    response.iterations = min(plan.iterations, 2**32 - 1)
    response.seed = plan.seed
    for stage in ("ik_ms", "plan_ms", "smooth_ms", "timing_ms", "check_ms", "total_ms"):
        setattr(response, stage, getattr(plan.stages, stage))


def refuse(response: Any, error: PlanError) -> None:
    """Write into a response that there is no plan, and why."""
    response.status.code = int(Status.INVALID_REQUEST if error.code in OF_THE_REQUEST else Status.FAILED)
    response.status.message = str(error)
    response.code = int(error.code)
    response.min_clearance_m = 0.0


def write_trajectory(message: Any, trajectory: Trajectory) -> None:
    """A trajectory as trajectory_msgs/JointTrajectory."""
    message.joint_names = list(trajectory.joints)
    rows = zip(
        trajectory.times.tolist(),
        trajectory.positions.tolist(),
        trajectory.velocities.tolist(),
        trajectory.accelerations.tolist(),
        strict=True,
    )
    message.points = [
        JointTrajectoryPoint(positions=q, velocities=v, accelerations=a, time_from_start=duration(t))
        for t, q, v, a in rows
    ]


def duration(seconds: float) -> Duration:
    """As a message; whole nanoseconds."""
    whole = math.floor(seconds)
    nanoseconds = round((seconds - whole) * 1e9)
    return Duration(sec=whole + nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
