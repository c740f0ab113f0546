"""Seeded tabletop scenes, cleared by a simulated arm whose eyes and plans are replicated services.

Every scene is judged by where the simulator says its things are, not by what the action says of itself. Half-way
through the run, while an object is being carried, one replica of each service is killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from skyfog_bench.fleet import Fleet
from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_bench.report import Goal, Report
from skyfog_core.extras import need

WORLD = "skyfog_world.nodes.world"
PICK_PLACE = "skyfog_planning.nodes.pick_place"
PICKER = "skyfog_bench.nodes.picker"
SERVICES = {
    "segment": ("skyfog_interfaces/srv/Segment", "skyfog_perception.nodes.segment:SegmentService"),
    "plan_motion": ("skyfog_interfaces/srv/PlanMotion", "skyfog_planning.nodes.plan:PlanService"),
}
ZONES = ("a", "b")
DEADLINE_MS = 15_000
START_LIMIT_S = 60.0
SCENE_LIMIT_S = 240.0
FIRST_SEED = 1  # 0 leaves the scene as the world's file has it
FAILED_SHARE = 0.1
# The left bin of sim_worlds/tabletop.sdf: its middle, half its inner side and its rim, in the world's frame.
BIN = (0.4, 0.45)
BIN_HALF_M = 0.116
BIN_TOP_M = 0.47


@dataclass(frozen=True, slots=True)
class Size:
    """How many scenes, and how fast the simulated time goes."""

    scenes: int
    real_time_factor: float


FULL = Size(20, 2.0)
QUICK = Size(1, 2.0)


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Clear the scenes one after another."""
    need("world", "mujoco")
    need("planning", "ompl", "pinocchio", "coal", "toppra")
    say("starting the world, a robot proxy, two replicas of each service and the pick-and-place action …")
    fleet = Fleet(processes)
    replicas, arm, picker = _start(fleet, size)
    picker.ask(START_LIMIT_S + 5, do="wait", limit_s=START_LIMIT_S)
    report = Report("pick_place", seed)
    for index in range(size.scenes):
        scene = FIRST_SEED + seed * 1_000 + index
        picker.send(do="scene", seed=scene, limit_s=SCENE_LIMIT_S)
        killed = index == size.scenes // 2 and _kill_one_each(processes, replicas, arm, say)
        row = _row(scene, picker.receive(SCENE_LIMIT_S + 60), killed=killed)
        report.rows.append(row)
        say(f"scene {index + 1} of {size.scenes}: {row['in_bin']} of {row['objects']} in the bin")
    report.goals += _goals(report.rows)
    return report


def _start(fleet: Fleet, size: Size) -> tuple[dict[str, Process], Process, Process]:
    """Every process; returns the replicas by "service/zone", the action's node and the client."""
    config = _config("pick_place.yaml")["/**/pick_place"]["ros__parameters"]
    fleet.node("world", WORLD, {"world": {"world": "tabletop", "real_time_factor": size.real_time_factor}})
    services = {name: {"type": kind, "deadline_ms": DEADLINE_MS} for name, (kind, _) in SERVICES.items()}
    fleet.proxy(services)
    replicas = {}
    for name, (kind, embedded) in SERVICES.items():
        own = {"model": "tabletop"} if name == "segment" else {}
        for zone in ZONES:
            replicas[f"{name}/{zone}"] = fleet.host(name, zone, kind, embedded, own)
    arm = fleet.node("pick_place", PICK_PLACE, {"pick_place": config})
    return replicas, arm, fleet.node("picker", PICKER, {})


def _config(name: str) -> Any:
    """A file of the workspace's config/base."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "config" / "base" / name).is_file():
            return yaml.safe_load((folder / "config" / "base" / name).read_text())
    raise BenchError(f"config/base/{name} is not found above {__file__}")


def _kill_one_each(
    processes: Processes, replicas: dict[str, Process], arm: Process, say: Callable[[str], None]
) -> bool:
    """Kill a replica of each service once something is carried; False where the scene ended before."""
    log = processes.folder / f"{arm.name}.log"

    def count(event: str) -> int:
        return log.read_text(errors="replace").count(event)

    carried, ended = count("stage=carry"), count("goal_done")
    processes.wait_until(
        lambda: count("stage=carry") > carried or count("goal_done") > ended, arm, "carries nothing", SCENE_LIMIT_S
    )
    if count("stage=carry") == carried:
        return False
    for name in SERVICES:
        processes.kill(replicas[f"{name}/{ZONES[0]}"])
    say(f"killed while something is carried: {', '.join(f'{name}/{ZONES[0]}' for name in SERVICES)}")
    return True


def in_bin(place: list[float]) -> bool:
    """Whether a model's origin, [x, y, z] in the world, is inside the left bin."""
    x, y, z = place
    return abs(x - BIN[0]) < BIN_HALF_M and abs(y - BIN[1]) < BIN_HALF_M and z < BIN_TOP_M


def _row(scene: int, found: dict[str, Any], *, killed: bool) -> dict[str, Any]:
    things = {name: place for name, place in found["poses"].items() if name.endswith("_0")}
    inside = sum(in_bin(place) for place in things.values())
    return {
        "scene": scene,
        "objects": len(things),
        "in_bin": inside,
        "done": inside == len(things),
        "rounds": found["rounds"],
        "failed_steps": len(found["failures"]),
        "seconds": found["seconds"],
        "replicas_killed": killed,
        "why": found["message"],
    }


def _goals(rows: list[Any]) -> list[Goal]:
    failed = sum(not row["done"] for row in rows)
    objects = sum(row["objects"] for row in rows)
    missed = objects - sum(row["in_bin"] for row in rows)
    hit = [row for row in rows if row["replicas_killed"]]
    unhit = "" if hit else "nothing was carried in the scene in which replicas were to be killed"
    return [
        Goal(f"share of {len(rows)} scenes not cleared", FAILED_SHARE, failed / len(rows)),
        Goal(f"share of {objects} objects not in the bin", FAILED_SHARE, missed / objects),
        Goal(
            "scenes not cleared in which replicas were killed",
            0,
            sum(not row["done"] for row in hit) if hit else None,
            why=unhit,
        ),
        Goal("median time for a scene", SCENE_LIMIT_S, median(row["seconds"] for row in rows), "s"),
    ]
