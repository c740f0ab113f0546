"""The object detection service, as a node of its own or embedded in a replica."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cv2
import structlog
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.node import Node

from skyfog_core.config.perception import DetectConfig
from skyfog_core.errors import ConfigError, InvalidRequest, Status
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare
from skyfog_interfaces.msg import Detection
from skyfog_interfaces.srv import Detect
from skyfog_perception.detector import Detected, DetectionResult, Detector
from skyfog_perception.manifest import find_model
from skyfog_perception.prepare import Rgb, compressed_to_rgb, raw_to_rgb

log = structlog.get_logger()


class DetectService:
    """A service callback for skyfog_interfaces/srv/Detect. Stateless; never raises; any thread may call it."""

    def __init__(self, node: Node) -> None:
        """Read the node's parameters and load the model. Raises ConfigError that names file, key and bound."""
        config = declare(node, DetectConfig)
        cv2.setNumThreads(config.threads)  # of the whole process: it is the replica's
        with blame("model"):
            folder = find_model(config.model, installed_models())
            self._detector = Detector(folder, config.providers, config.threads)
        self._max_pixels = config.max_pixels
        log.info(
            "model_ready",
            model=self._detector.model_name,
            sha256=self._detector.model_sha256[:12],
            provider=self._detector.provider,
            threads=config.threads,
        )

    def __call__(self, request: Detect.Request, response: Detect.Response) -> Detect.Response:
        try:
            self._answer(request, response)
        except InvalidRequest as error:
            response.status.code, response.status.message = int(Status.INVALID_REQUEST), str(error)
        except Exception as error:  # the robot must hear of it, and the next request must be served
            log.exception("detect_failed")
            response.status.code, response.status.message = int(Status.FAILED), f"{type(error).__name__}: {error}"
        return response

    def _answer(self, request: Detect.Request, response: Detect.Response) -> None:
        began = time.perf_counter()
        wanted = (request.score_threshold, request.class_names, request.max_detections)
        self._detector.check_request(*wanted)  # before the work of decoding
        header, rgb = self._image(request)
        decode_ms = (time.perf_counter() - began) * 1e3
        fill(response, self._detector.detect(rgb, *wanted), decode_ms)
        response.header = header

    def _image(self, request: Detect.Request) -> tuple[Any, Rgb]:
        """The request's one image, and its header."""
        raw, packed = request.image, request.compressed_image
        has_raw = bool(len(raw.data) or raw.height or raw.width)
        has_packed = bool(len(packed.data))
        if has_raw == has_packed:
            raise InvalidRequest(
                f"{'both' if has_raw else 'neither'} of image and compressed_image given; exactly one must be"
            )
        if has_packed:
            return packed.header, compressed_to_rgb(packed.data, self._max_pixels)
        fields = (raw.height, raw.width, raw.encoding, raw.step, bool(raw.is_bigendian), raw.data)
        return raw.header, raw_to_rgb(*fields, self._max_pixels)


def installed_models() -> Path:
    """Where the build installs model folders. Raises ConfigError where there is no build."""
    try:
        return Path(get_package_share_directory("skyfog_perception")) / "models"
    except PackageNotFoundError:
        raise ConfigError("skyfog_perception is not installed: build the workspace and source it") from None


def fill(response: Detect.Response, result: DetectionResult, decode_ms: float) -> None:
    """Write a result into a response; `decode_ms` is the time before the detector was called."""
    response.status.code = int(Status.OK)
    response.detections = [message(detected) for detected in result.detections]
    response.model_name = result.model_name
    response.model_sha256 = result.model_sha256
    response.decode_ms = decode_ms + result.prepare_ms
    response.inference_ms = result.inference_ms
    response.postprocess_ms = result.postprocess_ms


def message(detected: Detected) -> Detection:
    """Edges become centre and size, as in vision_msgs."""
    made = Detection(class_id=str(detected.class_id), class_name=detected.class_name, score=detected.score)
    made.bbox.center.position.x = (detected.left + detected.right) / 2
    made.bbox.center.position.y = (detected.top + detected.bottom) / 2
    made.bbox.size_x = detected.right - detected.left
    made.bbox.size_y = detected.bottom - detected.top
    return made


def _nodes() -> list[Node]:
    node = Node("detect", **NODE_OPTIONS)
    node.create_service(Detect, "detect", DetectService(node))
    return [node]


def main() -> None:
    """Entry point of `ros2 run skyfog_perception detect`: the service without replicas or proxies."""
    sys.exit(run("detect", _nodes))


if __name__ == "__main__":
    main()
