"""`skyfog uplink profile`: an option table measured here, by the models of skyfog_perception on real images."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import yaml

from skyfog_bringup.images import Images, open_images
from skyfog_core.config.base import parse
from skyfog_core.config.uplink import UplinkTableSpec
from skyfog_core.errors import ConfigError
from skyfog_perception.agreement import count_detections, count_masks, f1, mean_iou
from skyfog_perception.decode.deeplab import Mask
from skyfog_perception.detector import Detected, Detector
from skyfog_perception.manifest import find_model, read_manifest
from skyfog_perception.places import model_folders
from skyfog_perception.segmenter import Segmenter
from skyfog_uplink.encode import Bgr
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.tables import table_of
from skyfog_uplink.profile import Model, Task

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Boxes:
    """A detector's answer, and the size of the image that it is about."""

    found: tuple[Detected, ...]
    size: tuple[int, int]  # height, width


class Detecting:
    """Detection: agreement is F1, a pair being of one class with an IoU of at least one half."""

    cloud, type = "/detect", "skyfog_interfaces/srv/Detect"

    def compare(self, reference: Boxes, other: Boxes) -> Counts:
        return count_detections(reference.found, reference.size, other.found, other.size)

    def agreement(self, counts: Counts) -> float:
        return f1(counts)


class DetectingModel:
    """A detector, asked as the service would."""

    def __init__(self, folder: Path, threads: int, score: float) -> None:
        self._detector, self._score = Detector(folder, threads=threads), score
        self.name = self._detector.network.name

    def run(self, image: Bgr) -> Boxes:
        found = self._detector.detect(_rgb(image), self._score).detections
        return Boxes(found, (image.shape[0], image.shape[1]))


@dataclass(frozen=True, slots=True)
class Masked:
    """A segmenter's answer."""

    mask: Mask  # [H, W] class ids
    labels: tuple[str, ...]


class Segmenting:
    """Segmentation: agreement is the mean IoU of the classes that either saw."""

    cloud, type = "/segment", "skyfog_interfaces/srv/Segment"

    def compare(self, reference: Masked, other: Masked) -> Counts:
        return count_masks(reference.mask, reference.labels, other.mask, other.labels)

    def agreement(self, counts: Counts) -> float:
        return mean_iou(counts)


class SegmentingModel:
    """A segmenter, asked as the service would."""

    def __init__(self, folder: Path, threads: int, score: float) -> None:
        self._segmenter, self._score = Segmenter(folder, threads=threads), score
        self.name = self._segmenter.network.name

    def run(self, image: Bgr) -> Masked:
        mask = self._segmenter.segment(_rgb(image), self._score).mask
        return Masked(mask, tuple(self._segmenter.network.labels))


TASKS: dict[str, tuple[Task, Callable[[Path, int, float], Model]]] = {
    "detect": (Detecting(), DetectingModel),
    "segment": (Segmenting(), SegmentingModel),
}


def _rgb(image: Bgr) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def open_models(names: Sequence[str], models_dir: str, threads: int, score: float) -> tuple[Task, list[Model]]:
    """Models of one task, by name or folder. Raises ConfigError where one is not there, or of another task."""
    folders = [find_model(name, model_folders(models_dir)) for name in names]
    does = [read_manifest(folder).task for folder in folders]
    for name, other in zip(names, does, strict=True):
        if other != does[0]:
            raise ConfigError(f"{name}: is a model to {other}, {names[0]} to {does[0]}: a table's models do the same")
    task, make = TASKS[does[0]]
    return task, [make(folder, threads, score) for folder in folders]


class Sample:
    """Images of several sources in turn, each spread evenly over what it has."""

    def __init__(self, where: Sequence[str], most: int, seed: int) -> None:
        """Raises ConfigError for what holds no images."""
        self._sources: list[Images] = [open_images(each, seed) for each in where or ("",)]
        share = max(1, most // len(self._sources))
        self._counts = [min(share, source.count) for source in self._sources]

    def __len__(self) -> int:
        return sum(self._counts)

    def __iter__(self) -> Iterator[Bgr]:
        for at in range(max(self._counts)):
            for source, count in zip(self._sources, self._counts, strict=True):
                if at < count:
                    rgb = source.get(at * source.count // count)
                    yield np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)

    def __str__(self) -> str:
        height, width = self._first_size()
        return f"{len(self)} images, the first of {width} x {height}"

    def sizes_of(self, widths: Sequence[int]) -> list[tuple[int, int]]:
        """(width, height) for each width, in the shape of the first image; (0, 0), as captured, for 0 or the whole."""
        height, full = self._first_size()
        return [(width, round(width * height / full)) if 0 < width < full else (0, 0) for width in widths]

    def _first_size(self) -> tuple[int, int]:
        height, width, _ = self._sources[0].get(0).shape
        return height, width


def machine(threads: int) -> str:
    """What ran the models, in a few words for a table's source."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    return f"{threads} of {os.cpu_count()} cores of {cpu} a model, onnxruntime {onnxruntime.__version__}"


def checked(values: dict[str, Any], source: str) -> Table:
    """The table that these values are. Raises ConfigError, e.g. where the model on the car is too slow for its SLO."""
    return table_of(parse(UplinkTableSpec, values, source), source)


def check_before(out: Path, name: str, services: Sequence[str]) -> None:
    """Raise ConfigError for names that no table can have or a folder that is not there, before it takes any time."""
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent}: is no folder")
    parse(UplinkTableSpec, {"name": name, "source": "", "services": {each: {} for each in services}}, "--service")


def write(values: dict[str, Any], path: Path) -> None:
    """The whole file or none. Raises ConfigError where it cannot be written."""
    text = yaml.safe_dump(values, sort_keys=False, width=120, default_flow_style=None, allow_unicode=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ConfigError(f"{path}: {error.strerror or error}") from None
