"""The detection service as a ROS 2 user meets it: a node to call, and a callback to embed."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
import structlog
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image

from skyfog_core.errors import ConfigError
from skyfog_core.nodes.main import configure_logs
from skyfog_core.nodes.parameters import NODE_OPTIONS
from skyfog_interfaces.msg import Status
from skyfog_interfaces.srv import Detect
from skyfog_perception.nodes.detect import DetectService
from support.processes import Processes
from support.ros import caller, free_domain, ros_node


def photograph(name: str = "chelsea.png") -> np.ndarray:
    """uint8 BGR [H, W, 3]."""
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return cv2.imread(str(Path(spec.origin).parent / "data" / name), cv2.IMREAD_COLOR)


def raw(bgr: np.ndarray, **changes: Any) -> Image:
    height, width = bgr.shape[:2]
    fields = {"height": height, "width": width, "encoding": "bgr8", "step": 3 * width, **changes}
    image = Image(**fields)
    image.data.frombytes(bgr.tobytes())
    image.header.frame_id = "camera"
    return image


def jpeg(bgr: np.ndarray) -> CompressedImage:
    image = CompressedImage(format="jpeg")
    image.data.frombytes(cv2.imencode(".jpg", bgr)[1].tobytes())
    image.header.frame_id = "camera"
    return image


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context, domain_id=free_domain())
    yield context
    rclpy.try_shutdown(context=context)


def node_with(context: Context, **parameters: Any) -> Node:
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    return Node("detect", context=context, parameter_overrides=overrides, use_global_arguments=False, **NODE_OPTIONS)


@pytest.fixture(scope="module")
def service(context: Context) -> Iterator[DetectService]:
    node = node_with(context, max_pixels=1_000_000)
    yield DetectService(node)
    node.destroy_node()


def ask(service: DetectService, **fields: Any) -> Detect.Response:
    return service(Detect.Request(**fields), Detect.Response())


@pytest.mark.parametrize("field", ["image", "compressed_image"])
def test_a_photograph_is_answered_with_boxes_hash_and_header(service: DetectService, field: str) -> None:
    image = raw(photograph()) if field == "image" else jpeg(photograph())
    response = ask(service, **{field: image})
    assert (response.status.code, response.status.message) == (Status.OK, "")
    cat = response.detections[0]
    assert (cat.class_id, cat.class_name) == ("16", "cat")
    assert cat.score == pytest.approx(0.79, abs=0.06)
    centre, size = cat.bbox.center.position, (cat.bbox.size_x, cat.bbox.size_y)
    assert (centre.x, centre.y, *size) == pytest.approx((209, 150, 398, 296), abs=12)
    assert response.header.frame_id == "camera"
    assert response.model_name == "efficientdet_lite0"
    assert len(response.model_sha256) == 64
    assert min(response.decode_ms, response.inference_ms, response.postprocess_ms) > 0


TRUNCATED = jpeg(photograph())
TRUNCATED.data = TRUNCATED.data[:9_000]


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, "neither of image and compressed_image"),
        ({"image": raw(photograph()), "compressed_image": jpeg(photograph())}, "both of image and compressed_image"),
        ({"image": Image(height=3, width=3, encoding="rgb8", step=9)}, "image.data: has 0 bytes"),
        ({"image": raw(photograph(), encoding="yuv422")}, "image.encoding"),
        ({"image": raw(photograph(), step=7)}, "image.step"),
        ({"image": raw(np.zeros((1000, 1001, 3), np.uint8))}, "at most 1000000"),
        ({"compressed_image": TRUNCATED}, "before its end marker"),
        ({"image": raw(photograph()), "score_threshold": math.nan}, "score_threshold"),
        ({"image": raw(photograph()), "class_names": ["kat"]}, "did you mean 'cat'"),
        ({"image": raw(photograph()), "max_detections": 0}, "max_detections"),
    ],
)
def test_a_bad_request_is_answered_as_invalid_and_with_nothing_else(
    service: DetectService, fields: dict[str, Any], part: str
) -> None:
    response = ask(service, **fields)
    assert response.status.code == Status.INVALID_REQUEST
    assert part in response.status.message
    assert response == Detect.Response(status=response.status)


@pytest.fixture
def logs_of_production(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What our nodes write to stderr."""
    written = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", written)
        configure_logs("detect")
    yield written
    structlog.reset_defaults()


def test_a_fault_of_our_own_is_answered_as_failed_and_the_next_request_is_served(
    service: DetectService, monkeypatch: pytest.MonkeyPatch, logs_of_production: io.StringIO
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(service._detector.network._session, "run", broken)
        response = ask(service, image=raw(photograph()))
    assert (response.status.code, response.status.message) == (Status.FAILED, "ValueError: a bug")
    assert response == Detect.Response(status=response.status)
    logged = logs_of_production.getvalue()
    assert "request_failed" in logged
    assert "Traceback (most recent call last)" in logged
    assert len(logged) < 5_000  # nothing of the image
    assert ask(service, image=raw(photograph())).status.code == Status.OK


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"model": "efficientdet"}, "did you mean 'efficientdet_lite0'"),
        ({"model": "/no/such/folder"}, "/no/such/folder"),
        ({"providers": ["GPU"]}, "unknown execution provider 'GPU'"),
        ({"threads": 0}, "threads"),
        ({"thraeds": 2}, "did you mean 'threads'"),
    ],
)
def test_wrong_parameters_are_refused_before_the_first_request(
    context: Context, parameters: dict[str, Any], part: str
) -> None:
    node = node_with(context, **parameters)
    try:
        with pytest.raises(ConfigError) as caught:
            DetectService(node)
    finally:
        node.destroy_node()
    assert part in str(caught.value)


def test_the_node_answers_under_a_remapped_name_and_ends_on_a_signal(tmp_path: Path) -> None:
    domain = free_domain()
    with Processes(tmp_path) as processes:
        command = ("-m", "skyfog_perception.nodes.detect", "--ros-args", "-r", "detect:=look")
        node = processes.python("detect", *command, env={"ROS_DOMAIN_ID": str(domain)})
        node.wait_for("model_ready")
        with ros_node(domain) as client:
            response = caller(client, Detect, "/look").call(Detect.Request(compressed_image=jpeg(photograph())))
        assert [one.class_name for one in response.detections] == ["cat"]
        assert node.end() == 0
