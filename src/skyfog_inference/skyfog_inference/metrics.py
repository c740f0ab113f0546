"""What an engine counts, as plain data."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from skyfog_inference.request import FinishReason
from skyfog_inference.scheduler.base import SchedulerState

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Histogram:
    """Counts by upper bound; the last one counts what is above all."""

    bounds: tuple[float, ...] = SECONDS
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def copy(self) -> Histogram:
        return Histogram(self.bounds, list(self.counts), self.total)


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """Figures of one moment; counters are since the engine began."""

    scheduler: SchedulerState
    live: int  # requests under way, those that wait included
    ended: Mapping[FinishReason, int]
    refused: int  # of them by Overloaded
    steps: int
    prompt_tokens: int  # of requests that began
    drawn_tokens: int
    queue_s: Histogram  # from the arrival to the first step
    first_token_s: Histogram  # from the arrival
    between_tokens_s: Histogram
    total_s: Histogram
