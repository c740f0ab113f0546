"""What a robot folder says: `robots/<name>/robot.yaml`, checked before anything is loaded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from skyfog_core.config.base import Strict, load_yaml, nearest
from skyfog_core.errors import ConfigError
from skyfog_planning.problem import Array, Code, PlanError, invalid

ROBOT = "robot.yaml"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Vector = Annotated[list[Finite], Field(min_length=3, max_length=3)]


class JointSpec(Strict):
    """One joint of the arm: its limits, in rad and s."""

    name: str
    lower: Finite
    upper: Finite
    velocity: Positive
    acceleration: Positive

    @model_validator(mode="after")
    def _ordered(self) -> JointSpec:
        if not self.lower < self.upper:
            raise ValueError("lower must be below upper")
        return self


class FrameSpec(Strict):
    """A frame that the URDF lacks."""

    name: str
    parent: Annotated[str, Field(description="a link of the URDF")]
    xyz: Annotated[Vector, Field(description="metres in the parent's frame; axes are the parent's")]


class RobotSpec(Strict):
    """`robot.yaml`. A file is a path beside it, an absolute path, or `python://module/path inside that module`."""

    urdf: Annotated[str, Field(min_length=1, description="with the collision meshes")]
    spheres_urdf: Annotated[str, Field(description="the same links with spheres; empty: none")] = ""
    mesh_root: Annotated[str, Field(description="what `package://` in the URDF stands for")]
    arm: Annotated[list[JointSpec], Field(min_length=1)]
    others: Annotated[dict[str, Finite], Field(description="joints that do not move, where a request names none")] = {}
    tool: Annotated[FrameSpec, Field(description="the frame that goals and carried objects mean")]
    tool_links: Annotated[list[str], Field(description="links that may touch what is carried or allowed")]
    ready: Annotated[list[Finite], Field(description="a pose of the arm in free space")]
    never_collide: Annotated[list[list[str]], Field(description="pairs of links that are not checked")] = []

    @model_validator(mode="after")
    def _consistent(self) -> RobotSpec:
        if len(self.ready) != len(self.arm):
            raise ValueError(f"ready has {len(self.ready)} positions for {len(self.arm)} joints")
        for pair in self.never_collide:
            if len(pair) != 2:
                raise ValueError(f"never_collide: {pair} is no pair of links")
        return self


@dataclass(frozen=True, slots=True)
class Robot:
    """A robot folder, read; its files exist."""

    name: str
    spec: RobotSpec
    urdf: Path
    spheres_urdf: Path | None
    mesh_root: Path

    @property
    def joints(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.spec.arm)

    @property
    def lower(self) -> Array:
        return np.array([joint.lower for joint in self.spec.arm])

    @property
    def upper(self) -> Array:
        return np.array([joint.upper for joint in self.spec.arm])

    @property
    def velocity(self) -> Array:
        """Limits in rad/s."""
        return np.array([joint.velocity for joint in self.spec.arm])

    @property
    def acceleration(self) -> Array:
        """Limits in rad/s^2."""
        return np.array([joint.acceleration for joint in self.spec.arm])

    def arm_positions(self, where: str, named: dict[str, float], strangers: bool = False) -> Array:
        """[J] in the arm's order. Raises PlanError(INVALID) for a joint that is missing, unknown or not finite.

        `strangers`: joints of other robots may be named too, as in a machine's /joint_states.
        """
        missing = [joint for joint in self.joints if joint not in named]
        if missing:
            raise invalid(f"{where}: no position for {', '.join(missing)}")
        known = [*self.joints, *self.spec.others]
        for name, position in named.items():
            if name not in known and not strangers:
                raise invalid(f"{where}: {self.name} has no joint {name!r}{nearest(name, known)}")
            if not np.isfinite(position):
                raise invalid(f"{where}: {name} is {position}")
        return np.array([float(named[joint]) for joint in self.joints])

    def other_positions(self, named: dict[str, float]) -> dict[str, float]:
        """The joints that do not move, as the request names them or as the folder does."""
        return {name: float(named.get(name, default)) for name, default in self.spec.others.items()}

    def check_limits(self, where: str, code: Code, positions: Array) -> None:
        """Raise PlanError(code) that names joint and limits."""
        for joint, position in zip(self.spec.arm, positions, strict=True):
            if not joint.lower <= position <= joint.upper:
                text = f"{where}: {joint.name} is {position:.4f} rad, limits {joint.lower} .. {joint.upper}"
                raise PlanError(code, text)


def shared(kind: str) -> Path:
    """The package's folder of `robots` or `problems`: in the sources, or where the build installs it."""
    here = Path(__file__).resolve()
    for place in (here.parents[1] / kind, here.parents[4] / "share" / "skyfog_planning" / kind):
        if place.is_dir():
            return place
    raise ConfigError(f"skyfog_planning's folder of {kind} is neither beside its sources nor installed")


def robot_names() -> list[str]:
    """The installed robots."""
    return sorted(path.parent.name for path in shared("robots").glob(f"*/{ROBOT}"))


def read_robot(name_or_path: str) -> Robot:
    """A robot by its name among the installed ones or by its folder's path. Raises ConfigError."""
    if "/" in name_or_path:
        folder = Path(name_or_path).expanduser()
    else:
        names = robot_names()
        if name_or_path not in names:
            raise ConfigError(
                f"no robot {name_or_path!r}{nearest(name_or_path, names)} (there are: {', '.join(names)})"
            )
        folder = shared("robots") / name_or_path
    path = folder / ROBOT
    spec = load_yaml(RobotSpec, path)
    urdf = locate(path, "urdf", spec.urdf)
    spheres = locate(path, "spheres_urdf", spec.spheres_urdf) if spec.spheres_urdf else None
    return Robot(folder.name, spec, urdf, spheres, locate(path, "mesh_root", spec.mesh_root))


def locate(manifest: Path, key: str, place: str) -> Path:
    """Where a file named in a robot folder is. Raises ConfigError that names the manifest and the key."""
    if place.startswith("python://"):
        module, _, rest = place.removeprefix("python://").partition("/")
        found = importlib.util.find_spec(module)
        if found is None or not found.submodule_search_locations:
            raise ConfigError(f"{manifest}: {key}: Python package {module} is not installed: ./ws extra planning")
        path = Path(next(iter(found.submodule_search_locations))) / rest
    else:
        path = manifest.parent / Path(place).expanduser()
    if not path.exists():
        raise ConfigError(f"{manifest}: {key}: {path} does not exist")
    return path
