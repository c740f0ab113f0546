"""Where the Panda's joints have to be for its tool to be somewhere: inverse kinematics on MuJoCo's Jacobian."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from skyfog_core.poses import Pose
from skyfog_world.control import Trajectory
from skyfog_world.mujoco_sim import Simulation

ARM = tuple(f"panda_joint{number}" for number in range(1, 8))
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
TCP_M = 0.1034  # from the hand's frame, along its z
READY = np.array([0, -0.785398, 0, -2.356194, 0, 1.570796, 0.785398])
DOWN = np.diag([1.0, -1, -1])


def down_at(x: float, y: float, z: float, yaw: float = 0.0) -> Pose:
    """A tool pose that looks down, the fingers opening along y when yaw is 0."""
    pose = np.eye(4)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    pose[:3, :3] = turn @ DOWN
    pose[:3, 3] = (x, y, z)
    return pose


def joints_for(simulation: Simulation, tool: Pose, start: np.ndarray = READY) -> np.ndarray:
    """[7], by damped least squares from `start`. Raises AssertionError where the tool cannot be there."""
    model = simulation.model
    data: Any = mujoco.MjData(model)
    places = [model.joint(f"panda/{name}").qposadr[0] for name in ARM]
    columns = [model.joint(f"panda/{name}").dofadr[0] for name in ARM]
    hand = model.body("panda/panda_hand").id
    q = start.copy()
    low, high = np.array([model.joint(f"panda/{name}").range for name in ARM]).T
    move, turn = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    error = np.ones(6)
    for _ in range(300):
        data.qpos[places] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        rotation = data.xmat[hand].reshape(3, 3)
        point = data.xpos[hand] + rotation[:, 2] * TCP_M
        mujoco.mj_jac(model, data, move, turn, point, hand)
        spin = np.zeros(3)
        for axis in range(3):
            spin += 0.5 * np.cross(rotation[:, axis], tool[:3, axis])
        error = np.concatenate((tool[:3, 3] - point, spin))
        if np.abs(error).max() < 1e-5:
            return q
        jacobian = np.vstack((move[:, columns], turn[:, columns]))
        step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
        q = np.clip(q + np.clip(step, -0.2, 0.2), low, high)
    raise AssertionError(f"the tool does not reach {tool[:3, 3]}: {error}")


def move(simulation: Simulation, positions: np.ndarray, seconds: float, settle_s: float = 0.3) -> None:
    """The arm along a smooth way."""
    still = np.zeros((1, 7))
    simulation.follow("panda", Trajectory(ARM, (round(seconds * 1e9),), positions[None], still))
    simulation.advance(round((seconds + settle_s) * 1e9))


def grip(simulation: Simulation, width: float, settle_s: float = 0.7) -> None:
    """The fingers, each half of `width` from the middle; the second follows the first."""
    simulation.follow("panda", Trajectory(FINGERS[:1], (200_000_000,), np.array([[width / 2]])))
    simulation.advance(round(settle_s * 1e9))
