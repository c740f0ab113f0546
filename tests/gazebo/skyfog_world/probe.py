"""Runs beside a gzserver, in its network: notes what it says and does, into an .npz file.

usage: probe.py ORDERS.json OUT.npz, with {"world", "camera", "lidar", "drive": [model, m/s, rad/s, seconds] or null}
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from wire import Client, decode, encode, text

LIMIT_S = 50.0
CONNECT_S = 8.0
SETTLE_S = 2.0


def wait_for(what: str, holds: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    end, tick = time.monotonic() + limit_s, threading.Event()
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {limit_s} s")
        tick.wait(0.02)


def connect(topics: set[str]) -> Client:
    """A client of the master that knows of somebody who publishes each of `topics`: the world is loaded.

    The master tells a client of the topics of that moment and of later ones, and now and then of neither: then another
    client is told.
    """
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        try:
            client = Client()
            wait_for("the world's topics", lambda client=client: topics <= client.topics, CONNECT_S)
        except (OSError, TimeoutError):
            time.sleep(0.1)
        else:
            return client
    raise TimeoutError(f"{', '.join(topics)}: not within {LIMIT_S} s")


def seconds(stamp: Any) -> float:
    found = decode(stamp)
    return found.get(1, [0])[0] + found.get(2, [0])[0] * 1e-9


class Poses:
    """The world's time, and where each model and link is: name -> [time, x, y, z, yaw] rows, while it moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.rows: dict[str, list[tuple[float, ...]]] = {}

    def tick(self, data: bytes) -> None:
        self.now_s = seconds(decode(data)[2][0])

    def heard(self, data: bytes) -> None:
        message = decode(data)
        now_s = seconds(message[1][0])
        for raw in message.get(2, []):
            pose = decode(raw)
            point, turn = decode(pose[3][0]), decode(pose[4][0])
            x, y, z, w = (turn[field][0] for field in (2, 3, 4, 5))
            yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
            row = (now_s, point[1][0], point[2][0], point[3][0], yaw)
            self.rows.setdefault(text(pose[1][0]), []).append(row)


def drive(client: Client, world: str, poses: Poses, order: list[Any]) -> None:
    """At a speed for as long as is asked, by the world's clock. Classic turns clockwise for a positive yaw rate."""
    model, linear, angular, lasting_s = order
    topic = f"/gazebo/{world}/{model}/vel_cmd"
    client.advertise(topic, "gazebo.msgs.Pose")
    wait_for("the drive listens", lambda: client.has_subscriber(topic))
    ahead = encode([(1, float(linear)), (2, 0.0), (3, 0.0)])
    turn = encode([(2, 0.0), (3, 0.0), (4, math.sin(-angular / 2)), (5, math.cos(angular / 2))])
    poses.rows.pop(model, None)
    client.publish(topic, encode([(3, ahead), (4, turn)]))
    rows = poses.rows
    wait_for("the drive's end", lambda: model in rows and rows[model][-1][0] > rows[model][0][0] + lasting_s + 0.1)


def main() -> None:
    orders, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    root = f"/gazebo/{orders['world']}"
    client, poses = connect({f"{root}/world_stats", f"{root}/pose/local/info"}), Poses()
    found: dict[str, Any] = {}
    client.subscribe(f"{root}/world_stats", "gazebo.msgs.WorldStatistics", poses.tick)
    client.subscribe(f"{root}/pose/local/info", "gazebo.msgs.PosesStamped", poses.heard)
    raw: dict[str, bytes] = {}
    if orders["camera"]:
        image_topic = f"{root}/{orders['camera']}/image"
        client.subscribe(image_topic, "gazebo.msgs.ImageStamped", lambda data: raw.__setitem__("image", data))
    if orders["lidar"]:
        scan_topic = f"{root}/{orders['lidar']}/scan"
        client.subscribe(scan_topic, "gazebo.msgs.LaserScanStamped", lambda data: raw.__setitem__("scan", data))
    wait_for("settled", lambda: poses.now_s > SETTLE_S)
    raw.clear()
    wanted = [key for key, order in (("image", "camera"), ("scan", "lidar")) if orders[order]]
    wait_for("sensors", lambda: all(key in raw for key in wanted))
    if "image" in raw:
        image = decode(decode(raw["image"])[2][0])
        pixels = np.frombuffer(bytes(image[5][0]), np.uint8)
        found["image"] = pixels.reshape(image[2][0], image[1][0], 3)
    if "scan" in raw:
        scan = decode(decode(raw["scan"])[2][0])
        found["ranges"] = np.array(list(scan[13]), float)
        found["angles"] = np.array([scan[3][0], scan[4][0]])
    if orders["drive"]:
        drive(client, orders["world"], poses, orders["drive"])
    np.savez(out, **found, **{f"pose/{name}": np.array(rows) for name, rows in poses.rows.items()})


if __name__ == "__main__":
    main()
