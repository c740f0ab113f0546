"""What an SDF file says, in types: every pose resolved, every number checked. Metres, radians, kilograms."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from skyfog_core.poses import Pose
from skyfog_world.frames import Vector

Rgba = tuple[float, float, float, float]
WORLD = "world"


@dataclass(frozen=True, slots=True)
class Box:
    """Edge lengths."""

    size: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Sphere:
    """A ball."""

    radius: float


@dataclass(frozen=True, slots=True)
class Cylinder:
    """Along z, centred; as a capsule with a half ball on either end, beyond `length`."""

    radius: float
    length: float
    capsule: bool = False


@dataclass(frozen=True, slots=True)
class Plane:
    """Endless to the physics; drawn with edge lengths `size`."""

    normal: tuple[float, float, float]
    size: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mesh:
    """A file in OBJ or STL form, as it is on this machine."""

    file: Path
    scale: tuple[float, float, float]


Shape = Box | Sphere | Cylinder | Plane | Mesh


@dataclass(frozen=True, slots=True, eq=False)
class Visual:
    """What cameras and lidars see. `pose` in the link."""

    name: str
    pose: Pose
    shape: Shape
    rgba: Rgba


@dataclass(frozen=True, slots=True, eq=False)
class Collision:
    """What touches. `pose` in the link; `torsional` is friction against turning on the spot, None for none."""

    name: str
    pose: Pose
    shape: Shape
    friction: float
    torsional: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Inertial:
    """`pose` of the centre of mass in the link; `inertia` [3, 3] about it, in that pose's axes."""

    mass: float
    pose: Pose
    inertia: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """What a camera gives; `near` and `far` bound what is drawn."""

    width: int
    height: int
    horizontal_fov: float
    near: float
    far: float
    colour: bool
    depth: bool

    @property
    def focal_px(self) -> float:
        """Pixels per unit of x/z, the same in both directions."""
        return self.width / 2 / float(np.tan(self.horizontal_fov / 2))


@dataclass(frozen=True, slots=True)
class LidarSpec:
    """A ring of rays in the sensor's xy plane."""

    samples: int
    min_angle: float
    max_angle: float
    min_range: float
    max_range: float

    @property
    def angles(self) -> npt.NDArray[np.float64]:
        """[samples], first and last at the bounds."""
        return np.linspace(self.min_angle, self.max_angle, self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class Sensor:
    """`pose` in the link, x forward. `topic` is where Gazebo would publish; `frame_id` stands in the headers."""

    name: str
    pose: Pose
    rate_hz: float
    topic: str
    frame_id: str
    spec: CameraSpec | LidarSpec


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """`pose` in the model."""

    name: str
    pose: Pose
    inertial: Inertial
    gravity: bool
    visuals: tuple[Visual, ...]
    collisions: tuple[Collision, ...]
    sensors: tuple[Sensor, ...]


@dataclass(frozen=True, slots=True)
class Mimic:
    """The joint's target is `multiplier` times that of `joint`, plus `offset`."""

    joint: str
    multiplier: float
    offset: float


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """`pose` and `axis` in the child link. Bounds are infinite where there are none."""

    name: str
    kind: str  # fixed, revolute, prismatic or ball
    parent: str
    child: str
    pose: Pose
    axis: Vector
    lower: float = -np.inf
    upper: float = np.inf
    effort: float = np.inf
    damping: float = 0.0
    friction: float = 0.0
    mimic: Mimic | None = None


@dataclass(frozen=True, slots=True)
class DiffDrive:
    """Two wheels, or two rows of them, that turn at their own speed."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    separation: float
    radius: float
    topic: str
    odom_topic: str
    frame_id: str
    child_frame_id: str
    odom_hz: float


@dataclass(frozen=True, slots=True)
class Servo:
    """A joint driven to a position: force = p_gain · (target - position) - d_gain · velocity."""

    joint: str
    p_gain: float
    d_gain: float
    initial: float = 0.0


@dataclass(frozen=True, slots=True)
class TrajectoryControl:
    """Joints that follow trajectories sent to `topic`."""

    topic: str
    servos: tuple[Servo, ...]


@dataclass(frozen=True, slots=True)
class PositionControl:
    """One joint whose target is sent to `topic`."""

    topic: str
    servo: Servo


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """`pose` in the world."""

    name: str
    pose: Pose
    static: bool
    self_collide: bool
    links: dict[str, Link]
    joints: dict[str, Joint]
    drive: DiffDrive | None = None
    trajectories: TrajectoryControl | None = None
    positions: tuple[PositionControl, ...] = ()

    @property
    def servos(self) -> tuple[Servo, ...]:
        """Of both kinds of control."""
        followed = self.trajectories.servos if self.trajectories else ()
        return (*followed, *(control.servo for control in self.positions))

    @property
    def moves_itself(self) -> bool:
        """Whether it is a robot rather than a thing."""
        return self.drive is not None or bool(self.servos)


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """`direction` in the world."""

    name: str
    kind: str  # directional, point or spot
    position: Vector
    direction: Vector
    diffuse: tuple[float, float, float]
    specular: tuple[float, float, float]
    shadows: bool


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """Which models a scene seed moves, and where on the plane: x and y from `low` to `high`, `gap` apart."""

    models: tuple[str, ...]
    low: tuple[float, float]
    high: tuple[float, float]
    gap: float


@dataclass(frozen=True, slots=True)
class TrafficSpec:
    """Which models traffic moves; positions from SUMO's configuration where libsumo is installed, else recorded."""

    models: tuple[str, ...]
    recorded: Path
    sumo: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Everything of one world. `warnings` names what the file has and nothing here supports."""

    name: str
    file: Path
    step_s: float
    gravity: tuple[float, float, float]
    ambient: tuple[float, float, float]
    background: tuple[float, float, float]
    models: dict[str, Model]
    lights: tuple[Light, ...]
    scene: SceneSpec | None
    traffic: TrafficSpec | None
    warnings: tuple[str, ...] = field(default=())

    def sensors(self) -> list[tuple[Model, Link, Sensor]]:
        """Every sensor and where it is mounted, in the file's order."""
        return [
            (model, link, sensor)
            for model in self.models.values()
            for link in model.links.values()
            for sensor in link.sensors
        ]
