"""The real models, loaded once, and real photographs out of packages. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyfog_perception.detector import Detector
from skyfog_perception.segmenter import Segmenter

MODELS = Path(__file__).parents[3] / "src" / "skyfog_perception" / "models"
WHEELS = (("skimage", "data"), ("sklearn", "datasets/images"))
# Of Debian's package opencv-doc; the variable names a copy elsewhere.
FETCHED = Path(__file__).parents[3] / ".ws" / "photographs"  # by ./ws test
INSTALLED = Path("/usr/share/doc/opencv-doc/examples/data")
OPENCV_DOC = FETCHED if FETCHED.is_dir() else INSTALLED
OF_OPENCV_DOC = ("messi5.jpg", "leuvenA.jpg", "leuvenB.jpg", "aloeL.jpg", "aloeR.jpg", "vtest.avi")


@pytest.fixture(scope="session")
def model_folder() -> Path:
    return MODELS / "efficientdet_lite0"


@pytest.fixture(scope="session")
def deeplab_folder() -> Path:
    return MODELS / "deeplab_v3"


@pytest.fixture(scope="session")
def detector(model_folder: Path) -> Detector:
    return Detector(model_folder)


@pytest.fixture(scope="session")
def segmenter(deeplab_folder: Path) -> Segmenter:
    return Segmenter(deeplab_folder)


def path_of(name: str) -> Path:
    """Where a photograph is; skips where its package is not installed."""
    if name in OF_OPENCV_DOC:
        if not (OPENCV_DOC / name).is_file():
            pytest.skip(f"{name}: neither fetched by ./ws test nor is Debian's opencv-doc installed")
        return OPENCV_DOC / name
    for package, folder in WHEELS:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        path = Path(spec.origin).parent / folder / name
        if path.exists():
            return path
    raise FileNotFoundError(name)


@pytest.fixture(scope="session")
def photograph() -> Callable[[str], np.ndarray]:
    """By file name -> uint8 RGB [H, W, 3]; of a video the first picture."""

    def read(name: str) -> np.ndarray:
        path = path_of(name)
        if name.endswith(".avi"):
            video = cv2.VideoCapture(str(path))
            bgr = video.read()[1]
            video.release()
        else:
            bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    return read
