"""A world that runs: MuJoCo steps it, controllers drive it, and its state can be read or copied for the sensors.

Not safe for several threads: whoever steps also reads, and gives others a copy of `data`.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from skyfog_core.errors import ConfigError, InvalidRequest, plain_reason
from skyfog_core.poses import Pose, from_quaternion, quaternion
from skyfog_core.units import S
from skyfog_world.control import Follower, Odometry, Trajectory, WheelCounter, mean, wheel_speeds
from skyfog_world.mjcf import to_mjcf
from skyfog_world.model import Model, World
from skyfog_world.placing import scene_places
from skyfog_world.traffic import Traffic, open_traffic

CONTROL_NS = 4_000_000  # how often targets are renewed
TRAFFIC_NS = 20_000_000
ODOMETRY_NS = 20_000_000
SETTLE_NS = 500_000_000  # after a reset, so that things lie still before the clock starts


@dataclass(frozen=True, slots=True)
class JointState:
    """Radians or metres, per second, newton metres or newtons."""

    name: str
    position: float
    velocity: float
    effort: float


class Simulation:
    """One world."""

    def __init__(self, world: World, *, seed: int = 0, shadows: bool = False) -> None:
        """`seed` places the scene; 0 leaves it as the file has it. Raises ConfigError that names the file."""
        self.world = world
        try:
            self.model = mujoco.MjModel.from_xml_string(to_mjcf(world, shadows=shadows))
        except ValueError as error:
            raise ConfigError(f"{world.file}: MuJoCo refuses it: {plain_reason(error)}") from None
        self.data = mujoco.MjData(self.model)
        self._step_ns = round(world.step_s * S)
        self._traffic: Traffic | None = open_traffic(world.traffic) if world.traffic else None
        self._bodies = {
            (model.name, link): self.model.body(f"{model.name}/{link}").id
            for model in world.models.values()
            for link in model.links
        }
        self.reset(seed)

    @property
    def traffic_source(self) -> str:
        """What moves the traffic: a class's name, or none."""
        return "none" if self._traffic is None else type(self._traffic).__name__

    @property
    def now_ns(self) -> int:
        """Simulated time since the last reset."""
        return self._now_ns

    def reset(self, seed: int = 0) -> None:
        """Back to the beginning, with the scene of `seed`. Raises ConfigError where the world has no scene to draw."""
        places = scene_places(self.world, seed)
        mujoco.mj_resetData(self.model, self.data)
        self._now_ns = self._traffic_due_ns = -SETTLE_NS
        self._followers: dict[str, Follower] = {}
        self._counters: dict[str, WheelCounter] = {}
        self._speeds: dict[str, tuple[float, float]] = {}
        for name, place in places.items():
            self._put(name, place.x, place.y, place.yaw)
        for model in self.world.models.values():
            self._prepare(model)
        if self._traffic is not None:
            self._traffic.reset()
        self._move_traffic()
        mujoco.mj_forward(self.model, self.data)
        self.advance(SETTLE_NS)
        for model in self.world.models.values():
            if model.drive is not None:
                self._counters[model.name] = WheelCounter(model.drive, *self._wheel_angles(model))
        self._counted_ns = self._now_ns

    def advance(self, by_ns: int) -> None:
        """Step until `by_ns` later, to the step; controllers are heard every CONTROL_NS."""
        until = self._now_ns + by_ns
        while self._now_ns < until:
            self._control()
            steps = max(1, min(CONTROL_NS, until - self._now_ns) // self._step_ns)
            mujoco.mj_step(self.model, self.data, steps)
            self._now_ns += steps * self._step_ns
            if self._counters and self._now_ns - self._counted_ns >= ODOMETRY_NS:
                self._count()

    def drive(self, model: str, linear: float, angular: float) -> None:
        """Set the speed of a base, m/s and rad/s. Raises InvalidRequest for one that has no wheels or no number."""
        found = self.world.models.get(model)
        if found is None or found.drive is None:
            raise InvalidRequest(f"model {model!r} has no diff drive")
        if not np.isfinite((linear, angular)).all():
            raise InvalidRequest(f"cmd_vel is not finite: {linear}, {angular}")
        self._speeds[model] = (linear, angular)

    def follow(self, model: str, trajectory: Trajectory) -> None:
        """Begin a trajectory now. Raises InvalidRequest and changes nothing where it cannot be followed.

        A joint that mimics another follows that one, whatever the trajectory says of it.
        """
        if model not in self._followers:
            raise InvalidRequest(f"model {model!r} has no joints that are driven")
        self._followers[model].follow(trajectory, self._now_ns)

    def go_to(self, model: str, joint: str, position: float) -> None:
        """Set one joint's target now. Raises InvalidRequest where it cannot be there."""
        self.follow(model, Trajectory((joint,), (0,), np.array([[position]])))

    def moving(self, model: str) -> bool:
        """Whether a trajectory is under way."""
        return self._followers[model].moving(self._now_ns)

    def joint_states(self, model: str) -> list[JointState]:
        """Of every joint that turns or slides."""
        states = []
        for joint in self.world.models[model].joints.values():
            if joint.kind not in ("revolute", "prismatic"):
                continue
            found = self.data.joint(f"{model}/{joint.name}")
            effort = float(found.qfrc_actuator[0])
            states.append(JointState(joint.name, float(found.qpos[0]), float(found.qvel[0]), effort))
        return states

    def link_pose(self, model: str, link: str) -> Pose:
        """In the world."""
        body = self._bodies[model, link]
        return from_quaternion(self.data.xpos[body], self.data.xquat[body])

    def model_pose(self, model: str) -> Pose:
        """In the world: that of its first link, less where that link is in the model."""
        link = next(iter(self.world.models[model].links.values()))
        return self.link_pose(model, link.name) @ np.linalg.inv(link.pose)

    def odometry(self, model: str) -> Odometry:
        """What the wheels say since the last reset."""
        return self._counters[model].now

    def close(self) -> None:
        """End what runs beside the simulation."""
        if self._traffic is not None:
            self._traffic.close()

    def _put(self, name: str, x: float, y: float, yaw: float) -> None:
        """Move a free model, at the height that it has."""
        pose = self.world.models[name].pose
        turned = from_quaternion((x, y, pose[2, 3]), (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)))
        link = next(iter(self.world.models[name].links.values()))
        placed = turned @ link.pose
        free = self.data.joint(f"{name}/free")
        free.qpos[:3] = placed[:3, 3]
        free.qpos[3:] = quaternion(placed)

    def _prepare(self, model: Model) -> None:
        """Driven joints begin where their plugin says."""
        start = {}
        for servo in model.servos:
            joint = model.joints[servo.joint]
            if not joint.lower <= servo.initial <= joint.upper:
                raise ConfigError(
                    f"{self.world.file}: model {model.name!r}: initial_position of {joint.name} is {servo.initial:g}, "
                    f"outside {joint.lower:g} to {joint.upper:g}"
                )
            self.data.joint(f"{model.name}/{joint.name}").qpos[0] = servo.initial
            start[joint.name] = servo.initial
        if start:
            limits = {name: (model.joints[name].lower, model.joints[name].upper) for name in start}
            self._followers[model.name] = Follower(limits, start)

    def _control(self) -> None:
        for name, follower in self._followers.items():
            model = self.world.models[name]
            targets = follower.targets(self._now_ns)
            for servo in model.servos:
                mimic = model.joints[servo.joint].mimic
                position, velocity = targets[servo.joint]
                if mimic is not None and mimic.joint in targets:
                    position, velocity = (mimic.multiplier * value for value in targets[mimic.joint])
                    position += mimic.offset
                # The servo's damping is against the velocity that is wanted, not against all velocity.
                lead = servo.d_gain / servo.p_gain * velocity if servo.p_gain else 0.0
                self.data.actuator(f"{name}/{servo.joint}").ctrl[0] = position + lead
        for name, (linear, angular) in self._speeds.items():
            drive = self.world.models[name].drive
            assert drive is not None
            left, right = wheel_speeds(drive, linear, angular)
            for joints, speed in ((drive.left, left), (drive.right, right)):
                for joint in joints:
                    self.data.actuator(f"{name}/{joint}").ctrl[0] = speed
        self._move_traffic()

    def _move_traffic(self) -> None:
        if self._traffic is None or self._now_ns < self._traffic_due_ns:
            return
        self._traffic_due_ns = self._now_ns + TRAFFIC_NS
        for name, pose in self._traffic.poses(max(0, self._now_ns)).items():
            link = next(iter(self.world.models[name].links))
            slot = self.model.body_mocapid[self._bodies[name, link]]
            placed = pose @ self.world.models[name].links[link].pose
            self.data.mocap_pos[slot] = placed[:3, 3]
            self.data.mocap_quat[slot] = quaternion(placed)

    def _wheel_angles(self, model: Model) -> tuple[float, float]:
        assert model.drive is not None
        left, right = (
            mean([float(self.data.joint(f"{model.name}/{joint}").qpos[0]) for joint in joints])
            for joints in (model.drive.left, model.drive.right)
        )
        return left, right

    def _count(self) -> None:
        seconds = (self._now_ns - self._counted_ns) / S
        self._counted_ns = self._now_ns
        for name, counter in self._counters.items():
            counter.count(*self._wheel_angles(self.world.models[name]), seconds)
