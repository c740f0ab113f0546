"""The real model, loaded once, and real photographs from the wheels of scikit-image and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyfog_perception.detector import Detector

MODELS = Path(__file__).parents[3] / "src" / "skyfog_perception" / "models"
FOLDERS = (("skimage", "data"), ("sklearn", "datasets/images"))


@pytest.fixture(scope="session")
def model_folder() -> Path:
    return MODELS / "efficientdet_lite0"


@pytest.fixture(scope="session")
def detector(model_folder: Path) -> Detector:
    return Detector(model_folder)


@pytest.fixture(scope="session")
def photograph() -> Callable[[str], np.ndarray]:
    """By file name -> uint8 RGB [H, W, 3]. Read from the wheels' files: nothing is fetched."""

    def read(name: str) -> np.ndarray:
        for package, folder in FOLDERS:
            spec = find_spec(package)
            assert spec is not None
            assert spec.origin is not None
            path = Path(spec.origin).parent / folder / name
            if path.exists():
                return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        raise FileNotFoundError(name)

    return read
