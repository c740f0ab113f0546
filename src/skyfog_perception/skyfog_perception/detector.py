"""Object detection: an RGB image in, named boxes in its pixels out. No ROS."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skyfog_core.images import Rgb
from skyfog_perception.decode.boxes import Found, Ids
from skyfog_perception.decode.deeplab import DeepLab
from skyfog_perception.network import CPU, DEFAULT_MAX_BATCH, Network, Times, times_of


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
    """What was found, and where the time went."""

    detections: tuple[Detected, ...]  # by falling score
    times: Times


class Detector:
    """One model, ready. `detect` keeps nothing between calls and may be called from several threads at once."""

    def __init__(
        self,
        folder: Path,
        providers: Sequence[str] = CPU,
        threads: int = 1,
        max_batch: int = DEFAULT_MAX_BATCH,
    ) -> None:
        """Load the model in `folder`. Raises ConfigError that names file, key and what is allowed."""
        self.network = Network(folder, "detect", providers, threads, max_batch)
        assert not isinstance(self.network.decoder, DeepLab)  # whose task is another
        self._decoder = self.network.decoder

    def check_request(self, score_threshold: float, class_names: Sequence[str], max_detections: int) -> Ids:
        """The wanted class ids; no names: all. Raises InvalidRequest that names the field and what is allowed."""
        return self.network.check_request(score_threshold, class_names, max_detections, "max_detections")

    def detect(
        self,
        rgb: Rgb,
        score_threshold: float = 0.35,
        class_names: Sequence[str] = (),
        max_detections: int = 100,
    ) -> DetectionResult:
        """Objects in an image, uint8 RGB [H, W, 3].

        Raises InvalidRequest that names what is wrong, NotExecuted where there was no time left to begin.
        """
        wanted = self.check_request(score_threshold, class_names, max_detections)
        outputs, placement, times = self.network.infer(rgb)
        found = self._decoder.decode(outputs, placement, score_threshold, wanted)
        detections = self._named(found, max_detections)
        return DetectionResult(detections, times_of([*times, time.perf_counter()]))

    def _named(self, found: Found, limit: int) -> tuple[Detected, ...]:
        rows = zip(found.class_ids.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        return tuple(Detected(i, self.network.labels[i], score, *box) for i, score, box in list(rows)[:limit])
