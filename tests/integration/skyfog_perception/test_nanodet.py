"""NanoDet's head on a real network, which is too large to keep with the code; what it says was looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skyfog_perception.detector import Detector
from skyfog_perception.library import add_onnx
from support.boxes import Box, iou

MODELS = Path(__file__).parents[4] / "shared" / "models"
ONNX = MODELS / "nanodet_g_coco80_fp32.onnx"
GOLDEN: dict[str, tuple[str, float, Box]] = {
    "horse.png": ("horse", 0.56, (13, 6, 395, 318)),
    "motorcycle_left.png": ("motorbike", 0.79, (106, 75, 688, 454)),
    "camera.png": ("person", 0.88, (4, 68, 319, 512)),
}


@pytest.fixture(scope="module")
def nanodet(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    if not ONNX.is_file():
        pytest.skip(f"../shared/models/{ONNX.name} is not there")
    folder = tmp_path_factory.mktemp("models")
    return Detector(add_onnx(ONNX, MODELS / "coco.names", "nanodet", {}, "nanodet_g", {}, folder))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_photograph_shows_what_it_shows(
    name: str, nanodet: Detector, photograph: Callable[[str], np.ndarray]
) -> None:
    class_name, score, where = GOLDEN[name]
    (one,) = nanodet.detect(photograph(name), 0.45).detections
    assert one.class_name == class_name
    assert one.score == pytest.approx(score, abs=0.03)
    assert iou((one.left, one.top, one.right, one.bottom), where) > 0.95
