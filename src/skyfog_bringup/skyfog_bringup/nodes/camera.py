"""A camera that plays images and, if it is told to, asks a detection service about each: an ordinary ROS 2 client.

Nothing here knows who answers. Calls are asynchronous, so that a slow answer does not hold up the next image.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rclpy.client import Client
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image

from skyfog_bringup.images import Rgb, open_images, to_jpeg
from skyfog_core.config.demo import CameraConfig
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare
from skyfog_core.units import MS, S, ms_to_ns, ns_to_ms
from skyfog_interfaces.srv import Detect

LOOK_FOR_LATE_S = 0.05
TELL_S = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request under way."""

    index: int
    sent_ns: int
    future: Future


class Camera(Node):
    """Parameters in, images and calls out."""

    def __init__(self) -> None:
        super().__init__("camera", **NODE_OPTIONS)
        self._config = declare(self, CameraConfig)
        with blame("image"):
            self._images = open_images(self._config.image, self._config.seed)
        self._record: TextIO | None = None
        if self._config.record:
            Path(self._config.record).parent.mkdir(parents=True, exist_ok=True)
            self._record = Path(self._config.record).open("a", buffering=1)  # noqa: SIM115  # closed with the node
        self._publisher = self.create_publisher(Image, "~/image", qos_profile_sensor_data)
        self._client = self.create_client(Detect, self._config.service) if self._config.service else None
        self._calls: dict[int, Call] = {}
        self._index = 0
        self._since: Counter[str] = Counter()
        self.create_timer(1.0 / self._config.rate_hz, self._shoot)
        if self._client is not None:
            self.create_timer(LOOK_FOR_LATE_S, self._give_up_late)
            self.create_timer(TELL_S, self._tell)

    def destroy_node(self) -> None:
        if self._record is not None:
            self._record.close()
        super().destroy_node()

    def _shoot(self) -> None:
        if self._client is not None and not self._client.service_is_ready():
            return
        index, self._index = self._index, self._index + 1
        image = self._images.get(index)
        stamp = self.get_clock().now().to_msg()
        self._publisher.publish(_message(image, stamp))
        if self._client is not None:
            self._ask(self._client, index, image, stamp)
        else:
            shot = {"stamp_ns": stamp.sec * S + stamp.nanosec, "shot_ns": time.monotonic_ns()}
            self._write({"index": index, "image": self._images.name(index), **shot})

    def _ask(self, client: Client, index: int, image: Rgb, stamp: Any) -> None:
        request = Detect.Request(score_threshold=self._config.score_threshold)
        request.compressed_image = CompressedImage(format="jpeg", data=to_jpeg(image, self._config.jpeg_quality))
        request.compressed_image.header.stamp = stamp
        request.compressed_image.header.frame_id = "camera"
        sent_ns = time.monotonic_ns()
        future = client.call_async(request)
        self._calls[index] = Call(index, sent_ns, future)
        future.add_done_callback(lambda done: self._answered(index, done))

    def _answered(self, index: int, future: Future) -> None:
        done_ns = time.monotonic_ns()
        call = self._calls.pop(index, None)
        if call is None or future.cancelled():
            return
        response = future.result()
        ok = response.status.code == response.status.OK
        self._note(
            call,
            done_ns,
            ok=ok,
            why="" if ok else response.status.message or f"status {response.status.code}",
            detections=[_plain(detection) for detection in response.detections],
            model=response.model_name,
            inference_ms=round(response.inference_ms, 3),
        )

    def _give_up_late(self) -> None:
        assert self._client is not None
        now_ns = time.monotonic_ns()
        limit_ns = ms_to_ns(self._config.limit_ms)
        for call in [call for call in self._calls.values() if now_ns - call.sent_ns > limit_ns]:
            del self._calls[call.index]
            self._client.remove_pending_request(call.future)
            self._note(call, now_ns, ok=False, why=f"no answer within {self._config.limit_ms} ms", detections=[])

    def _note(self, call: Call, done_ns: int, *, ok: bool, why: str, **fields: Any) -> None:
        self._since["answered" if ok else "failed"] += 1
        self._since["ms"] += (done_ns - call.sent_ns) // MS
        if not ok:
            self.get_logger().warning(f"{self._images.name(call.index)}: {why}")
        line = {
            "index": call.index,
            "image": self._images.name(call.index),
            "sent_ns": call.sent_ns,
            "done_ns": done_ns,
            "ms": ns_to_ms(done_ns - call.sent_ns),
            "ok": ok,
            "why": why,
        }
        self._write(line | fields)

    def _write(self, line: dict[str, Any]) -> None:
        if self._record is not None:
            self._record.write(json.dumps(line) + "\n")

    def _tell(self) -> None:
        assert self._client is not None
        since, self._since = self._since, Counter()
        total = since["answered"] + since["failed"]
        if total:
            mean = since["ms"] / total
            self.get_logger().info(f"{since['answered']} answers, {since['failed']} failed, {mean:.0f} ms on average")
        elif not self._client.service_is_ready():
            self.get_logger().info(f"waiting for {self._config.service}")


def _message(image: Rgb, stamp: Any) -> Image:
    height, width, _ = image.shape
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp = stamp
    message.header.frame_id = "camera"
    message.data.frombytes(image.tobytes())
    return message


def _plain(detection: Any) -> dict[str, Any]:
    box = detection.bbox
    left, top = box.center.position.x - box.size_x / 2, box.center.position.y - box.size_y / 2
    return {
        "name": detection.class_name,
        "score": round(detection.score, 4),
        "box": [round(value, 1) for value in (left, top, left + box.size_x, top + box.size_y)],
    }


def main() -> None:
    """Entry point of `ros2 run skyfog_bringup camera`."""
    sys.exit(run("camera", lambda: [Camera()]))


if __name__ == "__main__":
    main()
