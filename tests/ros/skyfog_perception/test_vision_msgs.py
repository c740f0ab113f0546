"""Detections as vision_msgs has them. The real package is not in the wheels: stand-ins with its fields replace it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from std_msgs.msg import Header

from skyfog_core.errors import ConfigError
from skyfog_interfaces.msg import Detection
from skyfog_interfaces.srv import Detect
from skyfog_perception.detector import Detected
from skyfog_perception.nodes.detect import DetectService, message
from skyfog_perception.nodes.vision import to_detection_array
from support.images import photograph, raw


# The fields of vision_msgs 4 (Jazzy) that a 2D detection has.
@dataclass(slots=True)
class Point2D:
    x: float = 0.0
    y: float = 0.0


@dataclass(slots=True)
class Pose2D:
    position: Point2D = field(default_factory=Point2D)
    theta: float = 0.0


@dataclass(slots=True)
class BoundingBox2D:
    center: Pose2D = field(default_factory=Pose2D)
    size_x: float = 0.0
    size_y: float = 0.0


@dataclass(slots=True)
class ObjectHypothesis:
    class_id: str = ""
    score: float = 0.0


@dataclass(slots=True)
class ObjectHypothesisWithPose:
    hypothesis: ObjectHypothesis = field(default_factory=ObjectHypothesis)
    pose: Any = None


@dataclass(slots=True)
class Detection2D:
    header: Any = None
    results: list[ObjectHypothesisWithPose] = field(default_factory=list)
    bbox: BoundingBox2D = field(default_factory=BoundingBox2D)
    id: str = ""


@dataclass(slots=True)
class Detection2DArray:
    header: Any = None
    detections: list[Detection2D] = field(default_factory=list)


MESSAGES = SimpleNamespace(
    Detection2D=Detection2D, Detection2DArray=Detection2DArray, ObjectHypothesisWithPose=ObjectHypothesisWithPose
)


def test_a_detection_is_carried_over_field_by_field() -> None:
    header = Header(frame_id="camera")
    cat = message(Detected(16, "cat", 0.75, 10.0, 20.0, 40.0, 60.0))
    cup = message(Detected(46, "cup", 0.5, 0.0, 0.0, 2.0, 2.0))
    array = to_detection_array([cat, cup], header, MESSAGES)
    assert array.header is header
    first, second = array.detections
    assert first.header is header
    assert [(one.hypothesis.class_id, one.hypothesis.score) for one in first.results] == [("16", 0.75)]
    assert first.bbox == BoundingBox2D(Pose2D(Point2D(25.0, 40.0), 0.0), 30.0, 40.0)
    assert second.results[0].hypothesis.class_id == "46"


@pytest.mark.parametrize("stand_in", [BoundingBox2D, Pose2D, Point2D])
def test_our_boxes_have_the_same_fields(stand_in: Any) -> None:
    ours: Any = Detection().bbox
    for name in {BoundingBox2D: (), Pose2D: ("center",), Point2D: ("center", "position")}[stand_in]:
        ours = getattr(ours, name)
    assert set(ours.get_fields_and_field_types()) == {one.name for one in fields(stand_in)}


def test_nothing_found_is_an_empty_array() -> None:
    assert to_detection_array([], Header(), MESSAGES).detections == []


@pytest.mark.skipif(importlib.util.find_spec("vision_msgs") is not None, reason="vision_msgs is installed here")
def test_without_the_package_the_parameter_is_refused(service_with: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"publish_vision_msgs: vision_msgs is not installed.*apt-get install"):
        service_with(DetectService, publish_vision_msgs=True)


def test_what_was_answered_is_published(service_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Any] = []
    service = service_with(DetectService)
    monkeypatch.setattr(service, "_vision_msgs", MESSAGES, raising=False)
    monkeypatch.setattr(service, "_publisher", SimpleNamespace(publish=published.append))
    response = service(Detect.Request(image=raw(photograph())), Detect.Response())
    assert len(published) == 1
    assert [one.results[0].hypothesis.class_id for one in published[0].detections] == ["16"]
    assert published[0].header.frame_id == "camera"
    assert published[0].detections[0].bbox.size_x == response.detections[0].bbox.size_x


def test_the_package_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from skyfog_perception.nodes.vision import load_vision_msgs

    made = ModuleType("vision_msgs.msg")
    monkeypatch.setitem(sys.modules, "vision_msgs", ModuleType("vision_msgs"))
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", made)
    assert load_vision_msgs() is made
