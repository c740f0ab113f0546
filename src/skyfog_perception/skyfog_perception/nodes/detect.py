"""The object detection service, as a node of its own or embedded in a replica."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher

from skyfog_core.config.perception import DetectConfig
from skyfog_core.images import Rgb
from skyfog_core.nodes.parameters import blame
from skyfog_interfaces.msg import Detection
from skyfog_interfaces.srv import Detect
from skyfog_perception.detector import Detected, Detector
from skyfog_perception.network import Network, Times
from skyfog_perception.nodes.service import ImageService, run_alone, set_box
from skyfog_perception.nodes.vision import load_vision_msgs, to_detection_array

DEPTH = 10


class DetectService(ImageService[DetectConfig]):
    """A service callback for skyfog_interfaces/srv/Detect."""

    srv_type = Detect
    name = "detect"
    schema = DetectConfig

    def _load(self, folder: Path, config: DetectConfig) -> Network:
        self._detector = Detector(folder, config.providers, config.threads, config.max_batch)
        return self._detector.network

    def _publish_on(self, node: Node, config: DetectConfig) -> None:
        self._publisher: Publisher | None = None
        if config.publish_vision_msgs:
            with blame("publish_vision_msgs"):
                self._vision_msgs = load_vision_msgs()
            self._publisher = node.create_publisher(self._vision_msgs.Detection2DArray, "~/detections", DEPTH)

    def _check(self, request: Any) -> None:
        self._detector.check_request(request.score_threshold, request.class_names, request.max_detections)

    def _fill(self, request: Any, rgb: Rgb, header: Any, response: Any) -> Times:
        wanted = (request.score_threshold, request.class_names, request.max_detections)
        result = self._detector.detect(rgb, *wanted)
        response.detections = [message(detected) for detected in result.detections]
        if self._publisher is not None:
            self._publisher.publish(to_detection_array(response.detections, header, self._vision_msgs))
        return result.times


def message(detected: Detected) -> Detection:
    """A detection as it is sent."""
    made = Detection(class_id=str(detected.class_id), class_name=detected.class_name, score=detected.score)
    set_box(made.bbox, detected.left, detected.top, detected.right, detected.bottom)
    return made


def main() -> None:
    """Entry point of `ros2 run skyfog_perception detect`."""
    run_alone(DetectService)


if __name__ == "__main__":
    main()
