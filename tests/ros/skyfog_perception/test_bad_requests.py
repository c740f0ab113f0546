"""What both services refuse, in a request and in their parameters, and how."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from skyfog_core import budget
from skyfog_core.cancel import Cancellation
from skyfog_core.errors import ConfigError, NotExecuted
from skyfog_interfaces.msg import Status
from skyfog_perception.nodes.detect import DetectService
from skyfog_perception.nodes.segment import SegmentService
from support.images import bomb, jpeg, photograph, raw

SERVICES = [DetectService, SegmentService]
TRUNCATED = jpeg(photograph())
TRUNCATED.data = TRUNCATED.data[:9_000]
NO_PICTURE = CompressedImage(format="jpeg")
NO_PICTURE.data.frombytes(b"\x00" * 100)
LIMIT = {DetectService: "max_detections", SegmentService: "max_segments"}


@pytest.fixture(scope="module", params=SERVICES, ids=lambda service: service.name)
def service(request: pytest.FixtureRequest, service_with: Callable[..., Any]) -> Any:
    return service_with(request.param)


def ask(service: Any, **fields: Any) -> Any:
    return service(service.srv_type.Request(**fields), service.srv_type.Response())


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, "neither of image and compressed_image"),
        ({"image": raw(photograph()), "compressed_image": jpeg(photograph())}, "both of image and compressed_image"),
        ({"image": Image(height=3, width=3, encoding="rgb8", step=9)}, "image.data: has 0 bytes"),
        ({"image": raw(photograph(), height=0)}, "image: is empty"),
        ({"image": raw(photograph(), encoding="yuv422")}, "image.encoding"),
        ({"image": raw(photograph(), step=7)}, "image.step"),
        ({"image": raw(np.zeros((1000, 1001, 3), np.uint8))}, "at most 1000000"),
        ({"compressed_image": TRUNCATED}, "before its end marker"),
        ({"compressed_image": NO_PICTURE}, "neither JPEG, PNG nor WebP"),
        ({"compressed_image": bomb()}, "100000 x 100000 pixels are too many"),
        ({"image": raw(photograph()), "score_threshold": math.nan}, "score_threshold"),
        ({"image": raw(photograph()), "score_threshold": -0.5}, "score_threshold"),
        ({"image": raw(photograph()), "class_names": ["kat"]}, "did you mean 'cat'"),
    ],
)
def test_a_bad_request_is_answered_as_invalid_and_with_nothing_else(
    service: Any, fields: dict[str, Any], part: str
) -> None:
    response = ask(service, **fields)
    assert response.status.code == Status.INVALID_REQUEST
    assert part in response.status.message
    assert response == service.srv_type.Response(status=response.status)


def test_room_for_no_result_is_refused(service: Any) -> None:
    limit = LIMIT[type(service)]
    response = ask(service, image=raw(photograph()), **{limit: 0})
    assert response.status.code == Status.INVALID_REQUEST
    assert limit in response.status.message


def test_the_warm_up_is_one_inference_and_fails_where_that_does(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    infer = service._network.infer
    monkeypatch.setattr(service._network, "infer", lambda rgb: ran.append(rgb.shape) or infer(rgb))
    service.warm_up()
    assert len(ran) == 1
    monkeypatch.setattr(service._network, "infer", lambda _rgb: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        service.warm_up()


def test_what_cannot_begin_in_time_is_not_executed(service: Any) -> None:
    with budget.until(0):
        response = ask(service, image=raw(photograph()))
    assert response.status.code == Status.NOT_EXECUTED
    assert "time ran out" in response.status.message
    assert ask(service, image=raw(photograph())).status.code == Status.OK


def test_what_is_withdrawn_before_the_model_is_free_is_not_executed(service: Any) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    request = service.srv_type.Request(image=raw(photograph()))
    response = service.cancellable(request, service.srv_type.Response(), cancellation)
    assert response.status.code == Status.NOT_EXECUTED
    assert "withdrawn" in response.status.message
    assert ask(service, image=raw(photograph())).status.code == Status.OK


def test_a_full_queue_is_answered_as_not_executed(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise NotExecuted("64 requests wait")

    monkeypatch.setattr(service._network, "_in_turn", full)
    response = ask(service, image=raw(photograph()))
    assert (response.status.code, response.status.message) == (Status.NOT_EXECUTED, "64 requests wait")


@pytest.mark.parametrize("kind", SERVICES, ids=lambda service: service.name)
@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"model": "efficientdet"}, "did you mean 'efficientdet_lite0'"),
        ({"model": "/no/such/folder"}, "/no/such/folder"),
        ({"providers": ["GPU"]}, "unknown execution provider 'GPU'"),
        ({"threads": 0}, "threads"),
        ({"thraeds": 2}, "did you mean 'threads'"),
        ({"max_batch": 0}, "max_batch"),
    ],
)
def test_wrong_parameters_are_refused_before_the_first_request(
    service_with: Callable[..., Any], kind: Any, parameters: dict[str, Any], part: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        service_with(kind, **parameters)
    assert part in str(caught.value)


@pytest.mark.parametrize(("kind", "other"), [(DetectService, "deeplab_v3"), (SegmentService, "efficientdet_lite0")])
def test_a_model_for_the_other_task_is_refused(service_with: Callable[..., Any], kind: Any, other: str) -> None:
    with pytest.raises(ConfigError, match=f"{other}: task: is a model to .*, not to {kind.name}"):
        service_with(kind, model=other)
