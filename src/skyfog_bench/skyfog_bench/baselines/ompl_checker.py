"""OMPL as it is used by hand: RRTConnect, and a validity checker in Python that asks Pinocchio about every pair.

The links are what the job's URDF says, meshes or spheres. Links that touch where the robot rests are not asked about:
no sphere model is as thin as its links.

Run as a process: a job on stdin, answers on stdout, in JSON. It knows nothing of Skyfog but the job's files.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import coal
import numpy as np
import ompl.base as ob
import ompl.geometric as og
import ompl.util as ou
import pinocchio as pin

RESOLUTION = 0.005


def scene(job: dict[str, Any]) -> tuple[Any, Any]:
    """The whole robot and its boxes, with every pair that is not a neighbour."""
    model = pin.buildModelFromUrdf(job["urdf"])
    geometry = pin.buildGeomFromUrdf(model, job["urdf"], pin.GeometryType.COLLISION, package_dirs=[job["mesh_root"]])
    never = {frozenset(pair) for pair in job["never_collide"]}
    names = [model.frames[one.parentFrame].name for one in geometry.geometryObjects]
    for number, (size, centre) in enumerate(job["boxes"]):
        placement = pin.SE3(np.eye(3), np.array(centre, float))
        geometry.addGeometryObject(pin.GeometryObject(f"box{number}", 0, placement, coal.Box(*size)))
    for b in range(len(geometry.geometryObjects)):
        for a in range(min(b, len(names))):
            if b < len(names):
                wanted = names[a] != names[b] and frozenset((names[a], names[b])) not in never
            else:
                wanted = geometry.geometryObjects[a].parentJoint != 0
            if wanted:
                geometry.addCollisionPair(pin.CollisionPair(a, b))
    _leave_out_touching(model, geometry, len(names), rest_of(model, job))
    return model, geometry


def rest_of(model: Any, job: dict[str, Any]) -> Any:
    """Every joint's position where the robot rests."""
    q = pin.neutral(model)
    for name, position in {**job["others"], **dict(zip(job["joints"], job["rest"], strict=True))}.items():
        q[model.joints[model.getJointId(name)].idx_q] = position
    return q


def _leave_out_touching(model: Any, geometry: Any, own: int, q: Any) -> None:
    """Drop the robot's own pairs that touch at `q`."""
    data = geometry.createData()
    pin.computeCollisions(model, model.createData(), geometry, data, q, False)
    touching = [
        pin.CollisionPair(pair.first, pair.second)
        for pair, result in zip(geometry.collisionPairs, data.collisionResults, strict=True)
        if result.isCollision() and pair.first < own and pair.second < own
    ]
    for pair in touching:
        geometry.removeCollisionPair(pair)


def plan(job: dict[str, Any], valid: Any, start: list[float], goal: list[float]) -> list[list[float]] | None:
    """The first path, or None within the budget."""
    joints = len(start)
    bounds = ob.RealVectorBounds(joints)
    for i in range(joints):
        bounds.setLow(i, job["lower"][i])
        bounds.setHigh(i, job["upper"][i])
    space = ob.RealVectorStateSpace(joints)
    space.setBounds(bounds)
    setup = og.SimpleSetup(space)
    setup.setStateValidityChecker(lambda state: valid([state[i] for i in range(joints)]))
    setup.getSpaceInformation().setStateValidityCheckingResolution(RESOLUTION)
    ends = []
    for positions in (start, goal):
        state = space.allocState()
        for i in range(joints):
            state[i] = positions[i]
        ends.append(state)
    setup.setStartAndGoalStates(*ends)
    setup.setPlanner(og.RRTConnect(setup.getSpaceInformation()))
    definition, until = setup.getProblemDefinition(), time.monotonic() + job["budget_s"]
    setup.solve(ob.PlannerTerminationCondition(lambda: definition.hasExactSolution() or time.monotonic() > until))
    if not setup.haveExactSolutionPath():
        return None
    path = setup.getSolutionPath()
    return [[path.getState(k)[i] for i in range(joints)] for k in range(path.getStateCount())]


def main() -> None:
    """Answer one job."""
    ou.setLogLevel(ou.LOG_NONE)
    job = json.load(sys.stdin)
    ou.RNG.setSeed(job["seed"] + 1)
    model, geometry = scene(job)
    data, geometry_data = model.createData(), geometry.createData()
    q = pin.neutral(model)
    for name, position in job["others"].items():
        q[model.joints[model.getJointId(name)].idx_q] = position
    index = [model.joints[model.getJointId(name)].idx_q for name in job["joints"]]

    def valid(positions: list[float]) -> bool:
        q[index] = positions
        return not pin.computeCollisions(model, data, geometry, geometry_data, q, True)

    answers = []
    for start, goal in job["queries"]:
        began = time.perf_counter()
        path = plan(job, valid, start, goal)
        answers.append({"ms": (time.perf_counter() - began) * 1e3, "path": path})
    sys.stdout.write(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
