"""What a robot's controllers do, without a robot: follow a trajectory, turn wheels, count their turns.

Times are integer nanoseconds of the simulated clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skyfog_core.errors import InvalidRequest
from skyfog_core.units import S
from skyfog_world.model import DiffDrive

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Way-points of some joints. `times_ns` [n] since its start, rising; `positions` [n, joints] in rad or m.

    `velocities` [n, joints], where given, make the way between two points a cubic, else it is straight.
    """

    joints: tuple[str, ...]
    times_ns: tuple[int, ...]
    positions: Floats
    velocities: Floats | None = None

    def __post_init__(self) -> None:
        """Raises InvalidRequest that names the field."""
        shape = (len(self.times_ns), len(self.joints))
        if not self.joints or len(set(self.joints)) != len(self.joints):
            raise InvalidRequest(f"joint_names: {list(self.joints)}; each joint must be named once")
        if not self.times_ns:
            raise InvalidRequest("points: there are none")
        for name, values in (("positions", self.positions), ("velocities", self.velocities)):
            if values is None:
                continue
            if values.shape != shape:
                raise InvalidRequest(f"points: {name} are {list(values.shape)}, not {list(shape)} as points and joints")
            if not np.isfinite(values).all():
                raise InvalidRequest(f"points: {name} are not all finite")
        if self.times_ns[0] < 0 or any(b <= a for a, b in zip(self.times_ns, self.times_ns[1:], strict=False)):
            raise InvalidRequest("points: time_from_start must rise from point to point, from 0 or more")

    @property
    def end_ns(self) -> int:
        return self.times_ns[-1]


class Follower:
    """The targets of a group of joints over time. A new trajectory replaces what its joints were doing."""

    def __init__(self, limits: dict[str, tuple[float, float]], start: dict[str, float]) -> None:
        """`limits`: lower and upper position of each joint; `start`: where each is."""
        self._limits = limits
        self._held = dict(start)
        self._running: dict[str, _Segment] = {}

    @property
    def joints(self) -> tuple[str, ...]:
        return tuple(self._held)

    def follow(self, trajectory: Trajectory, now_ns: int) -> None:
        """Begin at `now_ns`, from where each joint is meant to be then. Raises InvalidRequest and changes nothing."""
        for index, joint in enumerate(trajectory.joints):
            if joint not in self._held:
                raise InvalidRequest(f"joint_names: there is no joint {joint!r} (there are: {', '.join(self._held)})")
            low, high = self._limits[joint]
            column = trajectory.positions[:, index]
            if column.min() < low or column.max() > high:
                worst = column.min() if column.min() < low else column.max()
                raise InvalidRequest(f"points: {joint} would be at {worst:.4g}, outside {low:.4g} to {high:.4g}")
        started = {joint: self._at(joint, now_ns) for joint in trajectory.joints}
        for index, joint in enumerate(trajectory.joints):
            self._running[joint] = _Segment.of(trajectory, index, now_ns, *started[joint])

    def targets(self, now_ns: int) -> dict[str, tuple[float, float]]:
        """Position and velocity that each joint is meant to have."""
        return {joint: self._at(joint, now_ns) for joint in self._held}

    def moving(self, now_ns: int) -> bool:
        """Whether a trajectory is under way."""
        return any(segment.start_ns + segment.times_ns[-1] > now_ns for segment in self._running.values())

    def _at(self, joint: str, now_ns: int) -> tuple[float, float]:
        segment = self._running.get(joint)
        if segment is None:
            return self._held[joint], 0.0
        position, velocity = segment.at(now_ns)
        if now_ns >= segment.start_ns + segment.times_ns[-1]:
            self._held[joint] = position
            del self._running[joint]
            return position, 0.0
        return position, velocity


@dataclass(frozen=True, slots=True)
class _Segment:
    """The way of one joint; the first point is where it started."""

    start_ns: int
    times_ns: tuple[int, ...]
    positions: tuple[float, ...]
    velocities: tuple[float, ...] | None

    @classmethod
    def of(cls, trajectory: Trajectory, index: int, start_ns: int, position: float, velocity: float) -> _Segment:
        times = trajectory.times_ns
        positions = tuple(float(v) for v in trajectory.positions[:, index])
        velocities = None if trajectory.velocities is None else tuple(float(v) for v in trajectory.velocities[:, index])
        if times[0] > 0:
            times, positions = (0, *times), (position, *positions)
            velocities = None if velocities is None else (velocity, *velocities)
        return cls(start_ns, times, positions, velocities)

    def at(self, now_ns: int) -> tuple[float, float]:
        since = now_ns - self.start_ns
        if since <= self.times_ns[0]:
            return self.positions[0], 0.0
        if since >= self.times_ns[-1]:
            return self.positions[-1], 0.0
        after = bisect_right(self.times_ns, since)
        before = after - 1
        span = (self.times_ns[after] - self.times_ns[before]) / S
        part = (since - self.times_ns[before]) / S / span
        p0, p1 = self.positions[before], self.positions[after]
        if self.velocities is None:
            return p0 + (p1 - p0) * part, (p1 - p0) / span
        return hermite(p0, p1, self.velocities[before] * span, self.velocities[after] * span, part, span)


def hermite(p0: float, p1: float, m0: float, m1: float, part: float, span: float) -> tuple[float, float]:
    """The cubic through p0 and p1 with slopes m0 and m1 per unit of `part`, 0..1: value, and slope per second."""
    s = part
    value = (
        (2 * s**3 - 3 * s**2 + 1) * p0 + (s**3 - 2 * s**2 + s) * m0 + (-2 * s**3 + 3 * s**2) * p1 + (s**3 - s**2) * m1
    )
    slope = (6 * s**2 - 6 * s) * (p0 - p1) + (3 * s**2 - 4 * s + 1) * m0 + (3 * s**2 - 2 * s) * m1
    return value, slope / span


def wheel_speeds(drive: DiffDrive, linear: float, angular: float) -> tuple[float, float]:
    """Metres and radians per second of the base -> radians per second of the left and right wheels."""
    half = angular * drive.separation / 2
    return (linear - half) / drive.radius, (linear + half) / drive.radius


@dataclass(frozen=True, slots=True)
class Odometry:
    """Where the wheels say the base is since the start, and how fast it goes. Metres, radians, seconds."""

    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    linear: float = 0.0
    angular: float = 0.0


class WheelCounter:
    """Odometry from the angles of the wheels, as gz-sim's DiffDrive has it: exact for arcs of constant speed."""

    def __init__(self, drive: DiffDrive, left: float, right: float) -> None:
        self._drive = drive
        self._left, self._right = left, right
        self.now = Odometry()

    def count(self, left: float, right: float, seconds: float) -> Odometry:
        """`left` and `right`: mean angles of the wheels of a side, `seconds` after those before."""
        along_left = (left - self._left) * self._drive.radius
        along_right = (right - self._right) * self._drive.radius
        self._left, self._right = left, right
        turned = (along_right - along_left) / self._drive.separation
        along = (along_left + along_right) / 2
        # The chord of an arc, halfway in direction: sin(t/2)/(t/2) of its length.
        chord = along * float(np.sinc(turned / 2 / math.pi))
        before = self.now
        self.now = Odometry(
            x=before.x + chord * math.cos(before.yaw + turned / 2),
            y=before.y + chord * math.sin(before.yaw + turned / 2),
            yaw=math.remainder(before.yaw + turned, math.tau),
            linear=along / seconds,
            angular=turned / seconds,
        )
        return self.now


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return sum(values) / len(values)
