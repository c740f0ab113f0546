"""What the engine asks of a runner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from skyfog_inference.scheduler.base import Step


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Logits of the last token of every chunk that draws, in the order of `step.chunks`."""

    sequences: tuple[str, ...]
    logits: torch.Tensor  # fp32 [sequences, vocab]
    took_ns: int


class Runner(Protocol):
    """Performs steps on a model and its caches."""

    device_blocks: int
    host_blocks: int

    def execute(self, step: Step) -> StepOutput:
        """Raises OSError where weights cannot be read; then nothing of the step has happened to the books."""
        ...

    def close(self) -> None: ...
