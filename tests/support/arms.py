"""Robots and scenes that the tests of planning share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from skyfog_planning.problem import Body, Box, JointGoal, Problem, translation
from skyfog_planning.robots import Robot, read_robot

READY = [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785]
TURNED = [1.2, *READY[1:]]
JOINTS = tuple(f"panda_joint{n}" for n in range(1, 8))


def box(identity: str, size: tuple[float, float, float], x: float, y: float, z: float, yaw: float = 0.0) -> Body:
    pose = translation(x, y, z)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    return Body(identity, ((Box(size), pose),))


POST = box("post", (0.05, 0.05, 1.0), 0.25, 0.17, 0.5)  # in the way from READY to TURNED

# A low ceiling, so that the forearm cannot pass over the shoulder, and fins left and right of the arm.
LOW = [0.0, 0.6, 0.0, -2.4, 0.0, 3.0, 0.785]
LOW_BEHIND = [2.8, *LOW[1:]]
PRISON = (
    box("ceiling", (3.0, 3.0, 0.02), 0.0, 0.0, 0.8),
    *(box(f"fin {side}", (1.0, 0.02, 0.78), 0.325, side * 0.563, 0.39, side * np.pi / 3) for side in (-1, 1)),
)


def named(positions: list[float] | np.ndarray) -> dict[str, float]:
    return dict(zip(JOINTS, map(float, positions), strict=True))


def panda_problem(begin: list[float] = READY, end: list[float] = TURNED, **fields: Any) -> Problem:
    return Problem(**{"start": named(begin), "goal": JointGoal(named(end)), "seed": 1, "budget_s": 30.0, **fields})


# Two links of 1 m in the plane z = 0, 10 cm thick; at 0 both along x. A base below, out of the way.
TWO_LINKS = """<robot name="two">
  <link name="base"/>
  <link name="upper"><collision><origin xyz="0.5 0 0"/><geometry><box size="1 0.1 0.1"/></geometry></collision></link>
  <link name="lower"><collision><origin xyz="0.5 0 0"/><geometry><box size="1 0.1 0.1"/></geometry></collision></link>
  <joint name="a" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
    <limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
  <joint name="b" type="revolute"><parent link="upper"/><child link="lower"/><origin xyz="1 0 0"/><axis xyz="0 0 1"/>
    <limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
</robot>
"""
TWO_LINKS_YAML = """
urdf: two.urdf
mesh_root: .
arm:
  - {name: a, lower: -3.0, upper: 3.0, velocity: 1.0, acceleration: 2.0}
  - {name: b, lower: -3.0, upper: 3.0, velocity: 1.0, acceleration: 2.0}
tool: {name: tip, parent: lower, xyz: [1.0, 0.0, 0.0]}
tool_links: [lower]
ready: [0.0, 0.0]
never_collide: [[upper, lower]]
"""


def two_links(folder: Path, yaml: str = TWO_LINKS_YAML, urdf: str = TWO_LINKS) -> Robot:
    """A robot folder of that arm, read."""
    made = folder / "two"
    made.mkdir(exist_ok=True)
    (made / "two.urdf").write_text(urdf)
    (made / "robot.yaml").write_text(yaml)
    return read_robot(str(made))
