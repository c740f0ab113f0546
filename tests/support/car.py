"""A car's nodes as processes, and around them, in the test's own process, its camera, its own model and its driver."""

from __future__ import annotations

import os
import threading
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from skyfog_interfaces.msg import CarDetections, Detection, UplinkLink, UplinkPlan, UplinkState
from skyfog_interfaces.srv import Detect
from skyfog_uplink.nodes.qos import LATCHED, NEWEST
from support.processes import Process, Processes, wait_until
from support.ros import free_domain, ros_node

WIDTH, HEIGHT = 640, 480
RATE_HZ = 10.0
# Two options; generous SLOs, since the machine of a test has other things to do.
TABLE: dict[str, Any] = {
    "name": "test",
    "source": "made up",
    "services": {
        "front": {
            "cloud": "/detect",
            "type": "skyfog_interfaces/srv/Detect",
            "rate_hz": RATE_HZ,
            "slo_ms": 1_000,
            "target": 0.9,
            "weight": 1.0,
            "floor": {"model": "small", "accuracy": 0.3},
            "options": [
                {"name": "half", "model": "large", "accuracy": 0.5, "bytes": 6_000, "exec_ms": 30, "codec": "jpeg"}
                | {"quality": 50, "width": 320, "height": 240},
                {"name": "whole", "model": "large", "accuracy": 0.7, "bytes": 20_000, "exec_ms": 30, "codec": "jpeg"},
            ],
        }
    },
}
SHAPER = {"transport": "support.uplink_loopback:open_link", "plan_stale_ms": 1_000}


class Car:
    """One car in a ROS domain of its own."""

    def __init__(self, processes: Processes, folder: Path, table: dict[str, Any] | None = None) -> None:
        self.processes, self.folder = processes, folder
        self.domain = free_domain()
        self.link = folder / "link"
        self.link.mkdir()
        self.table = folder / "table.yaml"
        self.table.write_text(yaml.safe_dump(table or TABLE))

    def node(self, executable: str, ready: bool = True, package: str = "skyfog_uplink", **parameters: Any) -> Process:
        """A node; ready when this returns."""
        path = self.folder / f"{executable}-{len(self.processes.all)}.yaml"
        given = {**({"table": str(self.table)} if package == "skyfog_uplink" else {}), **parameters}
        path.write_text(yaml.safe_dump({executable: {"ros__parameters": given}}))
        tests = str(Path(__file__).parent.parent)
        env = {
            "ROS_DOMAIN_ID": str(self.domain),
            "PYTHONPATH": f"{tests}:{os.environ.get('PYTHONPATH', '')}",
            "LOOPBACK_DIR": str(self.link),
        }
        words = ("-m", f"{package}.nodes.{executable}", "--ros-args", "--params-file", str(path))
        process = self.processes.python(executable, *words, env=env)
        if ready:
            process.wait_for(f"{executable}_ready")
        return process

    def allocator(self, **more: Any) -> Process:
        return self.node("allocator", **more)

    def shaper(self, **more: Any) -> Process:
        return self.node("shaper", **{**SHAPER, **more})

    def client(self, **more: Any) -> Process:
        return self.node("car_client", **{"service": "front", "plan_stale_ms": 1_000, **more})

    def gateway(self, name: str, port: int, replica_port: int) -> Process:
        """A gateway on loopback; ready when this returns."""
        path = self.folder / f"{name}-{len(self.processes.all)}.yaml"
        cars, zenoh = ({"listen": [f"tcp/127.0.0.1:{each}"]} for each in (port, replica_port))
        services = {"/detect": {"deadline_ms": 1_000}}
        path.write_text(
            yaml.safe_dump({"fleet": "test", "name": name, "services": services, "cars": cars, "zenoh": zenoh})
        )
        process = self.processes.python(name, "-m", "skyfog_bringup.uplink_gateway", "--config", str(path))
        process.wait_for("ready: ")
        return process

    def replica(self, ports: list[int]) -> Process:
        """A replica that sees one thing in every image, linked with the gateways at `ports`."""
        values = {
            "fleet": "test",
            "zone": "z",
            "service": "/detect",
            "type": "skyfog_interfaces/srv/Detect",
            "embedded": "support.services:right_half",
            "zenoh": {"connect": [f"tcp/127.0.0.1:{port}" for port in ports]},
        }
        return self.node("replica_proxy", ready=False, package="skyfog_router", **values)


class Surroundings:
    """A camera, a model on the car, and whoever listens."""

    def __init__(self, node: Node, client: str = "car_client", model: bool = True) -> None:
        """`client`: name of the car_client. `model`: whether to play the model on the car."""
        self.answers: deque[CarDetections] = deque(maxlen=10_000)
        self.link: UplinkLink | None = None
        self.plan: UplinkPlan | None = None
        self.state: UplinkState | None = None
        self.diagnoses: dict[str, tuple[int, str]] = {}
        self.on_car = threading.Event()  # whether the model answers
        self.on_car.set()
        self.jump_s = 0  # of the camera's clock
        self._node = node
        self._images = node.create_publisher(Image, "image", qos_profile_sensor_data)
        self._picture = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH)
        self._picture.data = array("B", bytes(range(256)) * (3 * WIDTH * HEIGHT // 256))
        if model:
            node.create_service(Detect, "on_car/detect", self._detect)
        node.create_subscription(CarDetections, f"{client}/detections", self._on_answer, 100)
        node.create_subscription(UplinkLink, "shaper/link", lambda told: setattr(self, "link", told), NEWEST)
        node.create_subscription(UplinkPlan, "allocator/plan", lambda told: setattr(self, "plan", told), LATCHED)
        node.create_subscription(UplinkState, "shaper/state", lambda told: setattr(self, "state", told), LATCHED)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)
        self.camera = node.create_timer(1.0 / RATE_HZ, self._shoot)

    def _shoot(self) -> None:
        stamp = self._node.get_clock().now().to_msg()
        stamp.sec += self.jump_s
        self._picture.header.stamp = stamp
        self._images.publish(self._picture)

    def _detect(self, request: Detect.Request, response: Detect.Response) -> Detect.Response:
        if not self.on_car.is_set():
            response.status.code = response.status.FAILED
            return response
        seen = Detection(class_id="0", class_name="car", score=0.5)
        seen.bbox.size_x, seen.bbox.size_y = float(request.image.width), float(request.image.height)
        response.detections = [seen]
        return response

    def _on_answer(self, told: CarDetections) -> None:
        self.answers.append(told)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            self.diagnoses[status.name] = (status.level[0], status.message)

    def forget(self) -> None:
        """What was answered so far."""
        self.answers.clear()

    def sources(self) -> set[str]:
        return {answer.source for answer in list(self.answers)}

    def wait_for(self, source: str, count: int = 3) -> list[CarDetections]:
        """Until `count` new answers of this source came."""
        self.forget()

        def found() -> list[CarDetections]:
            return [answer for answer in list(self.answers) if answer.source == source]

        wait_until(f"{count} answers of the {source}", lambda: len(found()) >= count)
        return found()


@contextmanager
def surroundings(domain: int, **more: Any) -> Iterator[Surroundings]:
    """Until the block ends."""
    with ros_node(domain) as node:
        yield Surroundings(node, **more)
