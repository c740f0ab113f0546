"""The detector's requests and set-up, on the real model."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from skyfog_core.errors import ConfigError, InvalidRequest
from skyfog_perception.detector import Detector

Photograph = Callable[[str], np.ndarray]
CPU = "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ({"score_threshold": math.nan}, ["score_threshold", "nan", "0..1"]),
        ({"score_threshold": -0.01}, ["score_threshold", "-0.01"]),
        ({"score_threshold": 1.01}, ["score_threshold", "1.01"]),
        ({"score_threshold": math.inf}, ["score_threshold", "inf"]),
        ({"max_detections": 0}, ["max_detections", "0 is less than 1"]),
        ({"class_names": ["cat", "kat"]}, ["class_names", "'kat'", "did you mean 'cat'", "known: person, bicycle"]),
        ({"class_names": ["Dining Table"]}, ["did you mean 'dining table'"]),
        ({"class_names": ["???"]}, ["class_names", "'???'"]),
        ({"class_names": [""]}, ["class_names", "''"]),
    ],
)
def test_a_wrong_request_is_refused_by_field(detector: Detector, request_: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        detector.detect(np.zeros((8, 8, 3), np.uint8), **request_)
    for part in parts:
        assert part in str(caught.value)


def test_only_the_classes_asked_for_come_back(detector: Detector, photograph: Photograph) -> None:
    image = photograph("coffee.png")
    assert {one.class_name for one in detector.detect(image, 0.35).detections} == {"dining table", "cup"}
    assert [one.class_name for one in detector.detect(image, 0.35, ["cup"]).detections] == ["cup"]
    assert detector.detect(image, 0.35, ["airplane"]).detections == ()


def test_at_most_the_number_asked_for_comes_back_and_these_are_the_best(
    detector: Detector, photograph: Photograph
) -> None:
    image = photograph("coffee.png")
    many = detector.detect(image, 0.0, max_detections=1_000).detections
    assert len(many) > 100
    assert detector.detect(image, 0.0, max_detections=7).detections == many[:7]
    assert [one.score for one in many] == sorted((one.score for one in many), reverse=True)


def test_ids_without_a_class_never_come_back(detector: Detector, photograph: Photograph) -> None:
    found = detector.detect(photograph("china.jpg"), 0.0, max_detections=1_000).detections
    assert found
    assert not [one for one in found if one.class_name == "???"]
    assert len(detector.network.class_names) == 80


def test_a_result_says_by_which_file_and_where_the_time_went(
    detector: Detector, photograph: Photograph, model_folder: Path
) -> None:
    result = detector.detect(photograph("chelsea.png"))
    content = (model_folder / "efficientdet_lite0_coco90_int8.onnx").read_bytes()
    assert detector.network.sha256 == hashlib.sha256(content).hexdigest()
    assert detector.network.name == "efficientdet_lite0"
    assert detector.network.provider == CPU
    assert min(result.times.prepare_ms, result.times.inference_ms, result.times.postprocess_ms) > 0


def test_class_ids_are_lines_of_the_label_file(detector: Detector, photograph: Photograph, model_folder: Path) -> None:
    cat = detector.detect(photograph("chelsea.png")).detections[0]
    assert (model_folder / "coco90.txt").read_text().splitlines()[cat.class_id] == cat.class_name == "cat"


def test_threads_share_a_detector(detector: Detector, photograph: Photograph) -> None:
    images = [photograph(name) for name in ("chelsea.png", "coffee.png", "camera.png", "flower.jpg")] * 3
    expected = [detector.detect(image).detections for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert [result.detections for result in pool.map(detector.detect, images)] == expected


def test_providers_are_tried_in_order_until_one_works(model_folder: Path) -> None:
    tried = Detector(model_folder, ["CUDAExecutionProvider", CPU]).network
    assert tried.provider in ("CUDAExecutionProvider", CPU)
    assert len(tried.skipped) == (tried.provider == CPU)
    assert all(why.startswith("CUDAExecutionProvider: ") for why in tried.skipped)
    assert Detector(model_folder, [CPU, "CUDAExecutionProvider"]).network.provider == CPU


@pytest.mark.parametrize(
    ("providers", "parts"),
    [
        (["CPUExecutionProvder"], ["'CPUExecutionProvder'", "did you mean 'CPUExecutionProvider'"]),
        (["CoreMLExecutionProvider"], ["no execution provider works", "CoreMLExecutionProvider", "available: "]),
    ],
)
def test_providers_that_cannot_work_are_named(model_folder: Path, providers: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Detector(model_folder, providers)
    for part in parts:
        assert part in str(caught.value)


def changed(model_folder: Path, tmp_path: Path, section: str, key: str, value: object) -> Path:
    """A copy of the model with one key of its manifest changed; section "" is the top."""
    folder = tmp_path / "copy"
    shutil.copytree(model_folder, folder)
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    (manifest[section] if section else manifest)[key] = value
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return folder


@pytest.mark.parametrize(
    ("section", "key", "value", "part"),
    [
        ("input", "name", "image", "the model's inputs are serving_default_images:0"),
        ("input", "dtype", "float32", "the model takes tensor(uint8)"),
        ("input", "layout", "nchw", "not [1, 3, 320, 320] (nchw)"),
        ("input", "width", 416, "the model takes [1, 320, 320, 3]"),
        ("decoder", "octaves", 2, "[1, 19206, 90]"),
        ("decoder", "scores", "StatefulPartitionedCall:7", "decoder.scores: the model's outputs are"),
    ],
)
def test_a_manifest_that_does_not_fit_the_model_is_refused_on_load(
    model_folder: Path, tmp_path: Path, section: str, key: str, value: object, part: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Detector(changed(model_folder, tmp_path, section, key, value))
    assert part in str(caught.value)


def test_a_file_that_is_no_network_is_refused(model_folder: Path, tmp_path: Path) -> None:
    content = b"not a network"
    folder = changed(model_folder, tmp_path, "", "sha256", hashlib.sha256(content).hexdigest())
    (folder / "efficientdet_lite0_coco90_int8.onnx").write_bytes(content)
    with pytest.raises(ConfigError, match=r"copy: no execution provider works: CPUExecutionProvider: .*"):
        Detector(folder)
