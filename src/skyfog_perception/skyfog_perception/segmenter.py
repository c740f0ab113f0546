"""Semantic segmentation: an RGB image in, a class per pixel and the regions of each class out. No ROS."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skyfog_core.images import Rgb
from skyfog_perception.decode.boxes import Ids
from skyfog_perception.decode.deeplab import DeepLab, Mask
from skyfog_perception.decode.regions import Regions, find_regions
from skyfog_perception.network import CPU, DEFAULT_MAX_BATCH, Network, Times, times_of


@dataclass(frozen=True, slots=True)
class Segmented:
    """One connected region of a class. Edges in pixels of the original image; right and bottom lie outside."""

    class_id: int
    class_name: str
    score: float  # 0..1, the mean probability of the class over the region
    left: int
    top: int
    right: int
    bottom: int
    area: int  # pixels


@dataclass(frozen=True, slots=True)
class SegmentationResult:
    """What was found, and where the time went."""

    mask: Mask  # [H, W] class ids; 0 where no region of `segments` is
    segments: tuple[Segmented, ...]  # by falling score
    times: Times


class Segmenter:
    """One model, ready. `segment` keeps nothing between calls and may be called from several threads at once."""

    def __init__(
        self,
        folder: Path,
        providers: Sequence[str] = CPU,
        threads: int = 1,
        max_batch: int = DEFAULT_MAX_BATCH,
    ) -> None:
        """Load the model in `folder`. Raises ConfigError that names file, key and what is allowed."""
        self.network = Network(folder, "segment", providers, threads, max_batch)
        assert isinstance(self.network.decoder, DeepLab)  # no other has this task
        self._decoder = self.network.decoder

    def check_request(self, score_threshold: float, class_names: Sequence[str], max_segments: int) -> Ids:
        """The wanted class ids; no names: all. Raises InvalidRequest that names the field and what is allowed."""
        return self.network.check_request(score_threshold, class_names, max_segments, "max_segments")

    def segment(
        self,
        rgb: Rgb,
        score_threshold: float = 0.5,
        class_names: Sequence[str] = (),
        max_segments: int = 100,
    ) -> SegmentationResult:
        """Regions of an image, uint8 RGB [H, W, 3].

        Raises InvalidRequest that names what is wrong, NotExecuted where there was no time left to begin.
        """
        wanted = self.check_request(score_threshold, class_names, max_segments)
        outputs, placement, times = self.network.infer(rgb)
        found = find_regions(self._decoder.decode(outputs, placement), score_threshold, wanted, max_segments)
        segments = self._named(found)
        return SegmentationResult(found.mask, segments, times_of([*times, time.perf_counter()]))

    def _named(self, found: Regions) -> tuple[Segmented, ...]:
        rows = zip(
            found.class_ids.tolist(), found.scores.tolist(), found.boxes.tolist(), found.areas.tolist(), strict=True
        )
        return tuple(
            Segmented(i, self.network.labels[i], score, left, top, right, bottom, area)
            for i, score, (left, top, right, bottom), area in rows
        )
