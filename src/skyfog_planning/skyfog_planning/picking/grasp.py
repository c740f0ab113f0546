"""Where the gripper goes: from above, its fingers across the narrower side. Pure.

The tool frame is the one between the finger tips: z points along the fingers, y is the direction in which they close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skyfog_core.poses import Pose
from skyfog_planning.picking.locate import Located


@dataclass(frozen=True, slots=True)
class GripperLimits:
    """What the gripper can do, metres."""

    max_opening: float = 0.08
    margin: float = 0.01  # of the opening, beyond the object's width
    finger_depth: float = 0.025  # how deep the tips reach below the object's top, at most
    clearance: float = 0.008  # of the tips above what the object stands on


@dataclass(frozen=True, slots=True)
class Grasp:
    """One way to take an object."""

    base_from_tool: Pose
    width: float  # of the object between the fingers, metres


def downward(x: float, y: float, z: float, yaw: float) -> Pose:
    """A tool at (x, y, z) that points straight down; its fingers close along the direction `yaw` + pi/2."""
    made = np.eye(4)
    cos, sin = np.cos(yaw), np.sin(yaw)
    # columns: tool x along yaw, tool y to its right seen from above, tool z down
    made[:3, :3] = [[cos, sin, 0.0], [sin, -cos, 0.0], [0.0, 0.0, -1.0]]
    made[:3, 3] = [x, y, z]
    return made


def grip_height(target: Located, limits: GripperLimits) -> float:
    """Height of the finger tips at the grasp: as deep as they reach, but not onto what the object stands on."""
    return max(target.bottom + limits.clearance, target.top - limits.finger_depth)


def grasps(target: Located, limits: GripperLimits) -> list[Grasp]:
    """Ways to take the object from above, the best first; [] where it is too wide for the gripper.

    Each is offered in both of the two turns of the hand that are the same for the object, the smaller turn first.
    """
    usable = limits.max_opening - limits.margin
    z = grip_height(target, limits)
    found: list[Grasp] = []
    for yaw, across in ((target.yaw, target.width), (target.yaw + np.pi / 2, target.length)):
        if across > usable:
            continue
        turns = sorted((_wrapped(yaw), _wrapped(yaw + np.pi)), key=abs)
        found += [Grasp(downward(target.x, target.y, z, turned), across) for turned in turns]
    return found


def raised(base_from_tool: Pose, by_m: float) -> Pose:
    """The same pose, higher by `by_m`."""
    made = base_from_tool.copy()
    made[2, 3] += by_m
    return made


def _wrapped(angle: float) -> float:
    """Into -pi..pi."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
