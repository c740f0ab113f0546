"""MPlib's planner, run by the Python of its own environment: a job on stdin, answers on stdout, in JSON.

Imports nothing of ours. MPlib gets the same meshes as convex shapes, which they are, and plans, shortens and times.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import mplib
import numpy as np
from mplib.collision_detection import fcl

STEP_S = 0.02


def planner_of(job: dict[str, Any], folder: Path) -> Any:
    """MPlib wants `<mesh>.convex.stl` beside each mesh, and mesh paths relative to the URDF's folder."""
    root = folder / "models"
    shutil.copytree(job["mesh_root"], root)
    for mesh in root.rglob("collision/*.stl"):
        shutil.copyfile(mesh, f"{mesh}.convex.stl")
    urdf = root / Path(job["urdf"]).relative_to(job["mesh_root"])
    narrow(urdf, job)
    srdf = folder / "robot.srdf"
    pairs = "".join(f'<disable_collisions link1="{a}" link2="{b}" reason="Never"/>' for a, b in job["never_collide"])
    srdf.write_text(f'<?xml version="1.0"?><robot name="{job["robot"]}">{pairs}</robot>')
    up = "/" + "../" * len(Path(job["urdf"]).relative_to(job["mesh_root"]).parent.parts)
    made = mplib.Planner(urdf=urdf, srdf=srdf, move_group=job["tool_link"], new_package_keyword=up, use_convex=True)
    for number, (size, centre) in enumerate(job["boxes"]):
        shape = fcl.CollisionObject(fcl.Box(size), mplib.Pose())
        body = fcl.FCLObject(f"box{number}", mplib.Pose(centre, [1, 0, 0, 0]), [shape], [mplib.Pose()])
        made.planning_world.add_object(body)
    return made


def narrow(urdf: Path, job: dict[str, Any]) -> None:
    """Write the job's joint limits into the URDF, whose own are wider: all planners get the same."""
    tree = ET.parse(urdf)  # noqa: S314 - a file of the robot folder
    wanted = {name: (job["lower"][i], job["upper"][i]) for i, name in enumerate(job["joints"])}
    for joint in tree.getroot().iter("joint"):
        limit = joint.find("limit")
        if limit is not None and joint.get("name") in wanted:
            low, high = wanted[str(joint.get("name"))]
            limit.set("lower", str(low))
            limit.set("upper", str(high))
    tree.write(urdf)


def main() -> None:
    """Answer one job."""
    job = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr  # MPlib prints
    mplib.set_global_seed(job["seed"])
    with tempfile.TemporaryDirectory() as folder:
        planner = planner_of(job, Path(folder))
    others = list(job["others"].values())
    answers = []
    for start, goal in job["queries"]:
        began = time.perf_counter()
        result = planner.plan_qpos(
            [np.array(goal)], np.array([*start, *others]), time_step=STEP_S, rrt_range=0.7,
            planning_time=job["budget_s"], simplify=True,
        )  # fmt: skip
        took = (time.perf_counter() - began) * 1e3
        path = result["position"].tolist() if result["status"] == "Success" else None
        answers.append({"ms": took, "path": path})
    out.write(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
