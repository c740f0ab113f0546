"""Scan, pick and place as an action: the policy decides, this node looks, plans, moves and grips.

Segmentation and planning are services like any other; behind a robot_proxy they are a fleet's replicas.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import structlog
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image, JointState
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from skyfog_core.config.picking import PickPlaceConfig
from skyfog_core.errors import SkyfogError, Status
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, declare
from skyfog_core.units import S
from skyfog_interfaces.action import PickPlace as PickPlaceAction
from skyfog_interfaces.srv import PlanMotion, Segment
from skyfog_planning.nodes import pick_messages as messages
from skyfog_planning.picking.frames import FrameTree, UnknownFrame
from skyfog_planning.picking.grasp import GripperLimits
from skyfog_planning.picking.locate import Camera, Limits, Points, Region, deproject, move
from skyfog_planning.picking.sequence import Finish, Grip, Look, Outcome, PickPlace, Reach, Step, Task

log = structlog.get_logger()

STILL_RAD_S = 0.02
HEAR_LIMIT_S = 10.0  # for the first joint states
GRIP_S = 0.6  # of the fingers' trajectory
GRIP_STILL_M_S = 0.002
VIEW_SETTLE_S = 0.1  # simulated or real seconds between arrival and the images that count


class StepFailed(SkyfogError):
    """A step could not be done; the message says why."""


class PickPlaceNode(Node):
    """Parameters in, steps performed; every choice is the policy's."""

    def __init__(self) -> None:
        super().__init__("pick_place", **NODE_OPTIONS)
        self._config = declare(self, PickPlaceConfig)
        self._views = list(self._config.views.values())
        self._frames = FrameTree()
        self._joints: dict[str, tuple[float, float]] = {}  # position, velocity
        self._joints_ns = 0
        self._images: dict[str, Any] = {}
        self._waiting: list[tuple[Callable[[], bool], Future]] = []
        self._busy = False
        self._segment = self.create_client(Segment, self._config.segment_service)
        self._plan = self.create_client(PlanMotion, self._config.plan_service)
        self._trajectories = self.create_publisher(JointTrajectory, self._config.trajectory_topic, 10)
        self._subscribe()
        self._server = ActionServer(
            self,
            PickPlaceAction,
            "pick_place",
            self._execute,
            goal_callback=self._accept,
            cancel_callback=lambda _goal: CancelResponse.ACCEPT,
        )
        log.info("pick_place_ready", views=list(self._config.views))

    def destroy_node(self) -> None:
        self._server.destroy()
        super().destroy_node()

    def _subscribe(self) -> None:
        camera = self._config.camera
        for topic, kind, key in (
            (f"{camera}/image", Image, "image"),
            (f"{camera}/depth_image", Image, "depth"),
            (f"{camera}/camera_info", CameraInfo, "info"),
        ):
            self.create_subscription(
                kind, topic, lambda message, key=key: self._seen(key, message), qos_profile_sensor_data
            )
        self.create_subscription(JointState, "/joint_states", self._on_joints, qos_profile_sensor_data)
        self.create_subscription(TFMessage, "/tf", self._on_tf, 100)
        self.create_subscription(TFMessage, "/tf_static", self._on_tf, messages.latched())

    # what is heard

    def _seen(self, key: str, message: Any) -> None:
        self._images[key] = message
        self._wake()

    def _on_joints(self, message: JointState) -> None:
        velocities = message.velocity or [0.0] * len(message.name)
        self._joints.update(zip(message.name, zip(message.position, velocities, strict=True), strict=True))
        stamp_ns = messages.stamp_ns(message.header)
        if stamp_ns < self._joints_ns:  # a simulation began anew: what was seen belongs to the past
            self._images.clear()
        self._joints_ns = stamp_ns
        self._wake()

    def _on_tf(self, message: TFMessage) -> None:
        for one in message.transforms:
            self._frames.heard(one.header.frame_id, one.child_frame_id, messages.to_matrix(one.transform))

    def _wake(self) -> None:
        for holds, future in list(self._waiting):
            if not future.done() and holds():
                future.set_result(True)

    async def _until(self, holds: Callable[[], bool], limit_s: float, what: str) -> None:
        """Wait for what was heard to fulfil `holds`. Raises StepFailed after `limit_s` of wall clock."""
        if holds():
            return
        entry = (holds, Future(executor=self.executor))
        self._waiting.append(entry)
        try:
            await self._within(entry[1], limit_s, what)
        finally:
            self._waiting.remove(entry)

    async def _within(self, future: Future, limit_s: float, what: str) -> Any:
        """The future's result. Raises StepFailed where it takes longer than `limit_s`."""
        end = Future(executor=self.executor)
        timer = self.create_timer(limit_s, lambda: None if end.done() else end.set_result(False))
        future.add_done_callback(lambda _done: None if end.done() else end.set_result(True))
        try:
            in_time = await end
        finally:
            self.destroy_timer(timer)
        if not in_time:
            future.cancel()
            raise StepFailed(f"{what}: not within {limit_s:g} s")
        return future.result()

    # the action

    def _accept(self, _goal: PickPlaceAction.Goal) -> GoalResponse:
        if self._busy:
            log.warning("goal_refused", why="a goal is being worked on; there is one arm")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> PickPlaceAction.Result:
        self._busy = True
        began_ns = time.monotonic_ns()
        try:
            policy = PickPlace(self._task(handle.request, began_ns))
            step = policy.start(began_ns)
            while not isinstance(step, Finish):
                if handle.is_cancel_requested:
                    step = policy.on_cancel()
                    break
                self._tell(handle, policy, step)
                step = await self._perform(policy, step)
            assert isinstance(step, Finish)
            if handle.is_cancel_requested:
                handle.canceled()
            elif step.outcome.why:
                handle.abort()
            else:
                handle.succeed()
            log.info("goal_done", placed=len(step.outcome.placed), left=step.outcome.left, why=step.outcome.why)
            return _result(step.outcome, began_ns)
        finally:
            self._busy = False

    def _task(self, goal: PickPlaceAction.Goal, now_ns: int) -> Task:
        config = self._config
        limit_s = min(goal.time_limit_s or config.time_limit_s, config.time_limit_s)
        return Task(
            views=len(self._views),
            region=Region(messages.three(config.region_low), messages.three(config.region_high)),
            limits=Limits(floor=config.floor_m),
            gripper=GripperLimits(max_opening=config.max_opening_m),
            class_names=tuple(goal.class_names),
            bin_centre=messages.three(config.bin_center),
            bin_spread_m=config.bin_spread_m,
            lift_m=config.lift_m,
            max_rounds=config.max_rounds,
            deadline_ns=now_ns + round(limit_s * S),
        )

    def _tell(self, handle: ServerGoalHandle, policy: PickPlace, step: Step) -> None:
        stage = f"look {step.view + 1}" if isinstance(step, Look) else getattr(step, "what", "")
        name = policy.target.class_name if policy.target else ""
        log.info("step", stage=stage, object=name)
        handle.publish_feedback(
            PickPlaceAction.Feedback(
                stage=stage, object=name, placed=len(policy.outcome.placed), remaining=policy.outcome.left
            )
        )

    async def _perform(self, policy: PickPlace, step: Step) -> Step:
        """Do one step and report it; returns the next one."""
        try:
            if isinstance(step, Look):
                clouds = await self._look(step.view)
                return policy.on_looked(clouds, time.monotonic_ns())
            if isinstance(step, Grip):
                opening = await self._grip(step.opening_m)
                return policy.on_gripped(opening, time.monotonic_ns())
            assert isinstance(step, Reach)
            await self._reach(policy, step)
            return policy.on_done(self._opening(), time.monotonic_ns())
        except (StepFailed, UnknownFrame) as error:
            log.warning("step_failed", why=str(error))
            return policy.on_failed(str(error), time.monotonic_ns())

    async def _look(self, view: int) -> list[tuple[str, Points]]:
        request = messages.plan_request(self._config, await self._positions())
        request.goal_joints = messages.joint_state(self._config.arm_joints, self._views[view].joints)
        await self._move(request)
        settled_ns = self._joints_ns + round(VIEW_SETTLE_S * S)

        def all_fresh() -> bool:
            stamps = [messages.stamp_ns(self._images[key].header) for key in ("image", "depth") if key in self._images]
            return len(stamps) == 2 and "info" in self._images and min(stamps) > settled_ns and stamps[0] == stamps[1]

        await self._until(all_fresh, self._config.motion_limit_s, f"images of {self._config.camera}")
        image, depth, info = (self._images[key] for key in ("image", "depth", "info"))
        frame = self._config.camera_frame or image.header.frame_id
        base_from_camera = self._frames.lookup(self._config.base_frame, frame)
        request = Segment.Request(image=image, score_threshold=self._config.score_threshold)
        response = await self._call(self._segment, request)
        mask, metres = messages.pixels(response.mask), messages.pixels(depth)
        camera = Camera(info.k[0], info.k[4], info.k[2], info.k[5])
        names = {int(segment.class_id): segment.class_name for segment in response.segments}
        return [
            (name, move(deproject(metres, mask == class_id, camera), base_from_camera))
            for class_id, name in names.items()
        ]

    async def _reach(self, policy: PickPlace, step: Reach) -> None:
        request = messages.plan_request(self._config, await self._positions())
        request.goal_pose = messages.pose(step.base_from_tool)
        request.cartesian = step.straight
        messages.add_scene(request, step, policy.objects, policy.task.gripper)
        await self._move(request)

    async def _move(self, request: PlanMotion.Request) -> None:
        """Plan, send the trajectory, wait until the arm is at its end and still."""
        response = await self._call(self._plan, request)
        trajectory = response.trajectory
        if not trajectory.points:
            raise StepFailed("the plan is empty")
        self._trajectories.publish(trajectory)
        end = dict(zip(trajectory.joint_names, trajectory.points[-1].positions, strict=True))
        took = trajectory.points[-1].time_from_start
        limit_s = took.sec + took.nanosec / S + self._config.motion_limit_s

        def there() -> bool:
            return all(
                abs(self._joints[name][0] - goal) < self._config.arrival_rad
                and abs(self._joints[name][1]) < STILL_RAD_S
                for name, goal in end.items()
            )

        await self._until(there, limit_s, "the arm does not arrive")

    async def _grip(self, opening_m: float) -> float:
        """Move the fingers until they stop; returns the opening in metres."""
        fingers = self._config.finger_joints
        self._trajectories.publish(messages.to_positions(fingers, [opening_m / 2] * len(fingers), GRIP_S))
        began_ns = self._joints_ns

        def still() -> bool:
            moved_for_s = (self._joints_ns - began_ns) / S
            return moved_for_s > GRIP_S and all(abs(self._joints[name][1]) < GRIP_STILL_M_S for name in fingers)

        await self._until(still, self._config.motion_limit_s, "the fingers do not come to rest")
        return self._opening()

    def _opening(self) -> float:
        """Between the fingers, as last heard, in metres."""
        return float(sum(self._joints[name][0] for name in self._config.finger_joints))

    async def _call(self, client: Any, request: Any) -> Any:
        """The service's response. Raises StepFailed where there is none, or its status is not OK."""
        await self._until(client.service_is_ready, HEAR_LIMIT_S, f"nobody offers {client.srv_name}")
        future = client.call_async(request)
        try:
            response = await self._within(future, self._config.call_limit_s, client.srv_name)
        finally:
            client.remove_pending_request(future)
        if response.status.code != int(Status.OK):
            raise StepFailed(f"{client.srv_name}: {response.status.message or response.status.code}")
        return response

    async def _positions(self) -> dict[str, float]:
        """Every joint as last heard. Raises StepFailed where one of the arm is not heard of."""
        wanted = [*self._config.arm_joints, *self._config.finger_joints]
        missing = [name for name in wanted if name not in self._joints]
        if missing:
            what = f"{', '.join(missing)} on /joint_states"
            await self._until(lambda: all(name in self._joints for name in wanted), HEAR_LIMIT_S, what)
        return {name: self._joints[name][0] for name in wanted}


def _result(outcome: Outcome, began_ns: int) -> PickPlaceAction.Result:
    made = PickPlaceAction.Result(
        placed=len(outcome.placed),
        placed_names=outcome.placed,
        left=outcome.left,
        failures=outcome.failures,
        rounds=outcome.rounds,
        seconds=(time.monotonic_ns() - began_ns) / S,
    )
    made.status.code = int(Status.FAILED if outcome.why else Status.OK)
    made.status.message = outcome.why
    return made


def main() -> None:
    """Entry point of `ros2 run skyfog_planning pick_place`."""
    sys.exit(run("pick_place", lambda: [PickPlaceNode()]))


if __name__ == "__main__":
    main()
