"""Object detection: an RGB image in, named boxes in its pixels out. No ROS."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skyfog_core.config.base import nearest
from skyfog_core.errors import InvalidRequest
from skyfog_perception.decode import Floats, Found, Ids, make_decoder
from skyfog_perception.manifest import UNLABELLED, load_model
from skyfog_perception.prepare import Rgb, to_tensor
from skyfog_perception.session import Session


@dataclass(frozen=True, slots=True)
class Detected:
    """One object. Edges in pixels of the original image: 0 <= left < right <= width, and so for top and bottom."""

    class_id: int
    class_name: str
    score: float  # 0..1
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """What was found, by what, and where the time went."""

    detections: tuple[Detected, ...]  # by falling score
    model_name: str
    model_sha256: str
    prepare_ms: float  # image to tensor
    inference_ms: float
    postprocess_ms: float  # tensors to boxes


class Detector:
    """One model, ready. `detect` keeps nothing between calls and may be called from several threads at once."""

    def __init__(self, folder: Path, providers: Sequence[str] = ("CPUExecutionProvider",), threads: int = 1) -> None:
        """Load the model in `folder`. Raises ConfigError that names file, key and what is allowed."""
        model = load_model(folder)
        self._input = model.manifest.input
        self._labels = model.labels
        self._ids = {label: index for index, label in enumerate(model.labels) if label != UNLABELLED}
        self._decoder = make_decoder(model)
        self._session = Session(model, providers, threads)
        self._decoder.check(self._session.output_shapes)
        self.model_name = model.name
        self.model_sha256 = model.manifest.sha256

    @property
    def provider(self) -> str:
        """The execution provider that runs the model."""
        return self._session.provider

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class that can be found."""
        return tuple(self._ids)

    def check_request(self, score_threshold: float, class_names: Sequence[str], max_detections: int) -> Ids:
        """The wanted class ids; no names: all. Raises InvalidRequest that names the field and what is allowed."""
        if not 0.0 <= score_threshold <= 1.0:  # nor is NaN
            raise InvalidRequest(f"score_threshold: {score_threshold} is not within 0..1")
        if max_detections < 1:
            raise InvalidRequest(f"max_detections: {max_detections} is less than 1")
        for name in class_names:
            if name not in self._ids:
                raise InvalidRequest(self._unknown_class(name))
        return np.asarray(sorted({self._ids[name] for name in class_names or self._ids}), np.intp)

    def detect(
        self,
        rgb: Rgb,
        score_threshold: float = 0.35,
        class_names: Sequence[str] = (),
        max_detections: int = 100,
    ) -> DetectionResult:
        """Objects in an image, uint8 RGB [H, W, 3]. Raises InvalidRequest that names what is wrong."""
        wanted = self.check_request(score_threshold, class_names, max_detections)
        height, width = rgb.shape[:2]
        times = [time.perf_counter()]
        tensor = to_tensor(rgb, self._input)
        times.append(time.perf_counter())
        outputs = self._session.run(tensor, self._decoder.outputs)
        times.append(time.perf_counter())
        found = self._decoder.decode(outputs, height, width, score_threshold, wanted)
        detections = self._named(found, max_detections)
        times.append(time.perf_counter())
        prepare_ms, inference_ms, postprocess_ms = (np.diff(times) * 1e3).tolist()
        return DetectionResult(detections, self.model_name, self.model_sha256, prepare_ms, inference_ms, postprocess_ms)

    def _named(self, found: Found, limit: int) -> tuple[Detected, ...]:
        boxes: Floats = found.boxes[:limit]
        return tuple(
            Detected(class_id, self._labels[class_id], score, *box)
            for class_id, score, box in zip(
                found.class_ids[:limit].tolist(), found.scores[:limit].tolist(), boxes.tolist(), strict=True
            )
        )

    def _unknown_class(self, name: str) -> str:
        known = list(self._ids)
        lower = name.strip().lower()
        hint = f"; did you mean '{lower}'?" if lower in self._ids else nearest(lower, known)
        return f"class_names: {self.model_name} has no class {name!r}{hint} (known: {', '.join(known)})"
