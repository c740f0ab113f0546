"""The simulated worlds at real time: how often their cameras give images, and detection in them through the router."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import yaml

from skyfog_bench.fleet import REPLICA, ROBOT, free_endpoint
from skyfog_bench.measure import quantile
from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_bench.report import Goal, Report
from skyfog_core.errors import ConfigError
from skyfog_core.extras import need
from skyfog_core.ports import claim_domain
from skyfog_core.units import MS
from skyfog_world.model import CameraSpec
from skyfog_world.sdf import load
from skyfog_world.topics import camera_topics
from skyfog_world.worlds import find_world, source_worlds

WORLD = "skyfog_world.nodes.world"
VIEWER = "skyfog_bench.nodes.viewer"
CAMERA = "/camera/image"  # of the warehouse's base
DETECT = {"type": "skyfog_interfaces/srv/Detect"}
START_LIMIT_S = 45.0
PERIOD_MS = 100.0  # 10 Hz, which is what is asked of the warehouse's camera


@dataclass(frozen=True, slots=True)
class Size:
    """How long each world is watched, and how many images are looked at."""

    seconds: float
    calls: int


FULL = Size(20.0, 200)
QUICK = Size(2.0, 20)


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Watch the three worlds one after the other; detection runs beside the warehouse."""
    try:
        need("world", "mujoco")
    except ConfigError as error:
        raise BenchError(str(error)) from None
    report = Report("world", seed)
    for name in ("tabletop", "street", "warehouse"):
        domain = claim_domain()
        say(f"{name}: {size.seconds:.0f} s at real time …")
        world, viewer = _start(processes, name, domain), processes.start(f"viewer_{name}", VIEWER, domain=domain)
        topics = _image_topics(name)
        seen = viewer.ask(
            START_LIMIT_S + size.seconds, do="watch", topics=topics, seconds=size.seconds, limit_s=START_LIMIT_S
        )["seen"]
        report.rows += [_rate(name, topic, seen[topic]) for topic in topics]
        if name == "warehouse":
            report.goals += _rate_goals(report.rows)
            _detection(processes, viewer, domain, size, say, report)
        processes.end([world, viewer])
    return report


def _start(processes: Processes, name: str, domain: int) -> Process:
    values = {"world": str(find_world(name, source_worlds())), "real_time_factor": 1.0}
    return _node(processes, f"world_{name}", WORLD, {"world": values}, domain)


def _node(processes: Processes, name: str, module: str, nodes: dict[str, dict[str, Any]], domain: int) -> Process:
    path = processes.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({node: {"ros__parameters": values} for node, values in nodes.items()}))
    return processes.start(name, module, "--ros-args", "--params-file", str(path), domain=domain)


def _image_topics(name: str) -> list[str]:
    sensors = [sensor for _, _, sensor in load(find_world(name, source_worlds())).sensors()]
    cameras = [sensor for sensor in sensors if isinstance(sensor.spec, CameraSpec)]
    return [f"/{topic}" for camera in cameras for topic in camera_topics(camera)[:2] if topic]


def _rate(world: str, topic: str, seen: list[list[int]]) -> dict[str, Any]:
    """How often images came, and how simulated time went beside the wall's."""
    if len(seen) < 3:
        raise BenchError(f"{world}: only {len(seen)} images came on {topic}")
    gaps_ms = [(b[0] - a[0]) / MS for a, b in pairwise(seen)]
    wall_ns, simulated_ns = seen[-1][0] - seen[0][0], seen[-1][1] - seen[0][1]
    return {
        "world": world,
        "topic": topic,
        "images": len(seen),
        "hz": (len(seen) - 1) / (wall_ns / 1e9),
        "gap_p50_ms": median(gaps_ms),
        "gap_p99_ms": quantile(gaps_ms, 0.99),
        "real_time_factor": simulated_ns / wall_ns,
    }


def _rate_goals(rows: list[Any]) -> list[Goal]:
    mean_ms = next(1e3 / row["hz"] for row in rows if row["topic"] == CAMERA)
    behind = max(1.0 - row["real_time_factor"] for row in rows)
    return [
        Goal("warehouse, mean time between camera images of 320x240", PERIOD_MS, mean_ms, "ms"),
        Goal("simulated time lost, of each second", 0.02, behind, "s"),
    ]


def _detection(
    processes: Processes, viewer: Process, domain: int, size: Size, say: Callable[[str], None], report: Report
) -> None:
    """A robot proxy and one replica on this machine too, so that world, router and detector share its cores."""
    say(f"warehouse: /detect on {size.calls} images …")
    endpoint = free_endpoint()
    proxy = {"fleet": "world", "services": {"detect": DETECT}, "zenoh": {"listen": [endpoint]}}
    _node(processes, "robot_proxy", ROBOT, {"robot_proxy": proxy}, domain)
    replica = {
        "fleet": "world",
        "service": "/detect",
        **DETECT,
        "embedded": "skyfog_perception.nodes.detect:DetectService",
        "zenoh": {"connect": [endpoint]},
    }
    _node(processes, "replica", REPLICA, {"replica_proxy": replica}, claim_domain())
    command = {"do": "detect", "topic": CAMERA, "service": "/detect", "limit_s": START_LIMIT_S}
    _until_answered(viewer, command)
    calls = viewer.ask(START_LIMIT_S + 5, **command, count=size.calls)["calls"]
    took_ms = [(call[1] - call[0]) / MS for call in calls]
    report.rows.append(
        {
            "service": f"/detect on {CAMERA}",
            "calls": len(calls),
            "failed": sum(1 for call in calls if call[2] != 0),
            "p50_ms": median(took_ms),
            "p99_ms": quantile(took_ms, 0.99),
            "max_ms": max(took_ms),
            "inference_p50_ms": median(call[3] for call in calls),
            "with_a_person": sum(1 for call in calls if "person" in call[4]),
        }
    )
    report.goals.append(Goal("/detect through the router, median", PERIOD_MS, median(took_ms), "ms"))
    report.goals.append(Goal("/detect through the router, p99", PERIOD_MS, quantile(took_ms, 0.99), "ms"))
    report.goals.append(Goal("/detect failed", 0, sum(1 for call in calls if call[2] != 0)))


def _until_answered(viewer: Process, command: dict[str, Any]) -> None:
    """The first answers may say that no replica is there yet."""
    for _ in range(10):
        calls = viewer.ask(START_LIMIT_S + 5, **command, count=5)["calls"]
        if calls[-1][2] == 0:
            return
    raise viewer.fault("the replica answers nothing but failures")
