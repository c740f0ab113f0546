"""The detection service as a ROS 2 user meets it: a node to call, and a callback to embed."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skyfog_interfaces.msg import Status
from skyfog_interfaces.srv import Detect
from skyfog_perception.nodes.detect import DetectService
from support.images import jpeg, photograph, raw
from support.processes import Processes
from support.ros import caller, free_domain, ros_node


@pytest.fixture(scope="module")
def service(service_with: Callable[..., Any]) -> DetectService:
    return service_with(DetectService)


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


def test_the_node_answers_under_a_remapped_name_and_ends_on_a_signal(tmp_path: Path) -> None:
    domain = free_domain()
    with Processes(tmp_path) as processes:
        command = ("-m", "skyfog_perception.nodes.detect", "--ros-args", "-r", "detect:=look")
        node = processes.python("detect", *command, env={"ROS_DOMAIN_ID": str(domain)})
        node.wait_for("model_ready")
        with ros_node(domain) as client:
            response = caller(client, Detect, "/look").call(Detect.Request(compressed_image=jpeg(photograph())))
        assert [one.class_name for one in response.detections] == ["cat"]
        node.signal(signal.SIGTERM)
        assert node.exit_status() == 0
