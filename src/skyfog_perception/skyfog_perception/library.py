"""What `skyfog models` does, without its words: what models there are, whether one works, and one more."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from skyfog_core.errors import ConfigError
from skyfog_core.images import Rgb
from skyfog_perception.detector import Detector
from skyfog_perception.manifest import MANIFEST, Manifest, read_labels, read_manifest
from skyfog_perception.network import Network, Times
from skyfog_perception.segmenter import Segmenter
from skyfog_perception.skeleton import write_skeleton

GREY = np.full((480, 640, 3), 128, np.uint8)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model's manifest says."""

    manifest: Manifest
    classes: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A model that was loaded and has run once."""

    network: Network
    seen: tuple[tuple[str, float], ...]  # class and score, by falling score
    times: Times


def facts_of(folder: Path) -> Facts:
    """Read, but neither hashed nor run. Raises ConfigError that names file and key."""
    manifest = read_manifest(folder)
    path = folder / manifest.file
    if not path.is_file():
        raise ConfigError(f"{folder / MANIFEST}: file: {path}: is not there")
    labels = read_labels(folder / MANIFEST, folder / manifest.labels)
    return Facts(manifest, len([label for label in labels if label != "???"]), path.stat().st_size)


def verify(folder: Path, image: Rgb = GREY) -> Verified:
    """Hash, inputs and outputs against the manifest, and one run on the CPU. Raises ConfigError for what is wrong."""
    if read_manifest(folder).task == "segment":
        segmenter = Segmenter(folder)
        network, segments = segmenter.network, segmenter.segment(image)
        seen, times = tuple((one.class_name, one.score) for one in segments.segments), segments.times
    else:
        detector = Detector(folder)
        network, detections = detector.network, detector.detect(image)
        seen, times = tuple((one.class_name, one.score) for one in detections.detections), detections.times
    outputs, _, _ = network.infer(image)
    for name, output in zip(network.decoder.outputs, outputs, strict=True):
        if not np.isfinite(output).all():
            raise ConfigError(f"{network.name}: output {name}: holds values that are no numbers (NaN or infinite)")
    return Verified(network, seen, times)


def read_image(path: Path) -> Rgb:
    """A picture file as RGB. Raises ConfigError where it is none."""
    bgr: Any = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        raise ConfigError(f"{path}: is no picture that OpenCV can read")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def add_folder(source: Path, name: str, known: Mapping[str, Path], models: Path) -> Path:
    """Copy a model folder into `models`, once it works. Returns where. Raises ConfigError, with nothing left behind."""
    manifest = read_manifest(source)
    with _new_model(name or source.resolve().name, known, models) as folder:
        for file in (MANIFEST, manifest.file, manifest.labels, "README.md", "LICENSE"):
            if (source / file).is_file():
                shutil.copyfile(source / file, folder / file)
        verify(folder)
    return models / (name or source.resolve().name)


def add_onnx(
    onnx: Path, labels: Path, decoder: str, given: Mapping[str, Any], name: str, known: Mapping[str, Path], models: Path
) -> Path:
    """As `add_folder` for a bare file: its manifest is written from what the file says. `given`: keys of its input."""
    name = name or onnx.stem
    for path in (onnx, labels):
        if not path.is_file():
            raise ConfigError(f"{path}: is no file")
    with _new_model(name, known, models) as folder:
        for path in (onnx, labels):
            shutil.copyfile(path, folder / path.name)
        write_skeleton(folder / onnx.name, folder / labels.name, decoder, given, folder)
        verify(folder)
    return models / name


@contextmanager
def _new_model(name: str, known: Mapping[str, Path], models: Path) -> Iterator[Path]:
    """A folder to be filled, which becomes `models/name` when the block ends well and is removed when it does not."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a model's name is of letters, digits, dots, dashes and underscores, not {name!r}: --name")
    if name in known:
        raise ConfigError(f"there is a model {name} already, in {known[name]}: choose another name with --name")
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=models) as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            yield folder
            folder.rename(models / name)
    except OSError as error:
        raise ConfigError(f"{error.filename or models}: {error.strerror or error}") from None
