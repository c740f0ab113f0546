"""The segmentation service as a ROS 2 user meets it: a node, a callback, and through the router."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import Image

from skyfog_interfaces.msg import Status
from skyfog_interfaces.srv import Detect, Segment
from skyfog_perception.nodes.segment import SegmentService
from support.images import jpeg, photograph, raw
from support.processes import LIMIT_S, Processes, wait_until
from support.ros import Fleet, caller, free_domain, ros_node

CAT = 8


@pytest.fixture(scope="module")
def service(service_with: Callable[..., Any]) -> SegmentService:
    return service_with(SegmentService)


def ask(service: SegmentService, **fields: Any) -> Segment.Response:
    return service(Segment.Request(**fields), Segment.Response())


def check_cat(response: Segment.Response, height: int = 300, width: int = 451) -> np.ndarray:
    """Returns the mask."""
    assert (response.status.code, response.status.message) == (Status.OK, "")
    cat = response.segments[0]
    assert (cat.class_id, cat.class_name) == (str(CAT), "cat")
    assert cat.score == pytest.approx(0.97, abs=0.03)
    assert cat.area == pytest.approx(103_436, rel=0.04)
    centre, size = cat.bbox.center.position, (cat.bbox.size_x, cat.bbox.size_y)
    assert (centre.x, centre.y, *size) == pytest.approx((193, 150, 386, 300), abs=8)
    mask = response.mask
    assert (mask.height, mask.width, mask.encoding, mask.step) == (height, width, "mono8", width)
    return np.array(mask.data, np.uint8).reshape(height, width)


@pytest.mark.parametrize("field", ["image", "compressed_image"])
def test_a_photograph_is_answered_with_mask_regions_hash_and_header(service: SegmentService, field: str) -> None:
    image = raw(photograph()) if field == "image" else jpeg(photograph())
    response = ask(service, **{field: image})
    mask = check_cat(response)
    assert (mask == CAT).sum() == sum(one.area for one in response.segments if one.class_id == str(CAT))
    assert response.header.frame_id == response.mask.header.frame_id == "camera"
    assert response.model_name == "deeplab_v3"
    assert len(response.model_sha256) == 64
    assert min(response.decode_ms, response.inference_ms, response.postprocess_ms) > 0


def test_the_filters_of_a_request_hold(service: SegmentService) -> None:
    response = ask(service, image=raw(photograph()), class_names=["dog"])
    assert response.status.code == Status.OK
    assert not response.segments
    assert not any(response.mask.data)
    assert ask(service, image=raw(photograph()), score_threshold=0.999).segments == []
    assert len(ask(service, image=raw(photograph("coffee.png")), score_threshold=0.0, max_segments=2).segments) == 2


def test_a_result_that_could_not_be_published_is_no_result(
    service: SegmentService, monkeypatch: pytest.MonkeyPatch, logs_of_production: io.StringIO
) -> None:
    def broken(_message: Image) -> None:
        raise RuntimeError("no middleware")

    monkeypatch.setattr(service, "_publisher", SimpleNamespace(publish=broken))
    response = ask(service, image=raw(photograph()))
    assert (response.status.code, response.status.message) == (Status.FAILED, "RuntimeError: no middleware")
    assert response == Segment.Response(status=response.status)
    assert "request_failed" in logs_of_production.getvalue()


ORDER = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


def provider_of(output: str) -> str:
    """The one that `model_ready` names."""
    return next(word.removeprefix("provider=") for word in output.split() if word.startswith("provider="))


def test_the_node_answers_and_publishes_the_mask_where_asked_to(tmp_path: Path) -> None:
    domain = free_domain()
    shown: list[Image] = []
    with Processes(tmp_path) as processes:
        command = ("-m", "skyfog_perception.nodes.segment", "--ros-args", "-p", "publish_mask:=true")
        node = processes.python("segment", *command, env={"ROS_DOMAIN_ID": str(domain)})
        node.wait_for("model_ready")
        # TensorRT and CUDA come first: each is taken or passed over with its reason.
        assert node.output.count("provider_skipped") == ORDER.index(provider_of(node.output))
        with ros_node(domain) as client:
            subscription = client.create_subscription(Image, "/segment/mask", shown.append, 10)
            wait_until("the publisher is found", lambda: client.count_publishers("/segment/mask") == 1)
            segment = caller(client, Segment, "/segment")

            def mask_came() -> bool:
                check_cat(segment.call(Segment.Request(compressed_image=jpeg(photograph()))))
                return bool(shown)

            wait_until("a mask on the topic", mask_came)
            client.destroy_subscription(subscription)
        node.signal(signal.SIGTERM)
        assert node.exit_status() == 0
    assert (shown[0].encoding, shown[0].height, shown[0].width) == ("mono8", 300, 451)
    assert CAT in shown[0].data


EMBEDDED = {
    "detect": ("skyfog_interfaces/srv/Detect", "skyfog_perception.nodes.detect:DetectService"),
    "segment": ("skyfog_interfaces/srv/Segment", "skyfog_perception.nodes.segment:SegmentService"),
}


def test_a_robot_asks_replicas_to_detect_and_to_segment(fleet: Fleet) -> None:
    fleet.robot(services={name: {"type": kind, "deadline_ms": 20_000} for name, (kind, _) in EMBEDDED.items()})
    for name, (kind, embedded) in EMBEDDED.items():
        replica = fleet.replica("a", service=f"/{name}", type=kind, embedded=embedded, replica=name)
        replica.wait_for("replica_ready", LIMIT_S)
    with ros_node(fleet.robot_domain) as client:
        segment, detect = caller(client, Segment, "/segment"), caller(client, Detect, "/detect")
        answered: list[Any] = []

        def found() -> bool:
            answered[:] = [segment.call(Segment.Request(image=raw(photograph())))]
            return bool(answered[0].status.code == Status.OK)

        wait_until("the replica is found", found)
        check_cat(answered[0])
        bad = segment.call(Segment.Request(image=raw(photograph(), step=7)))
        assert bad.status.code == Status.INVALID_REQUEST

        def detected() -> bool:
            answered[:] = [detect.call(Detect.Request(image=raw(photograph())))]
            return bool(answered[0].status.code == Status.OK)

        wait_until("the other replica is found", detected)
        assert [one.class_name for one in answered[0].detections] == ["cat"]
