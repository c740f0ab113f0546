"""How long a step takes by a cost model (NEO section 3.2): T = L (max(Tl0, Tca1) + max(Tl1 + Tga0, Tca0))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from skyfog_inference.cost.base import CostModel
from skyfog_inference.scheduler.base import Step, SubBatch


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds of one layer of one sub-batch."""

    linear: float = 0.0
    prefill: float = 0.0
    device_decode: float = 0.0
    host_decode: float = 0.0

    @classmethod
    def of(cls, cost: CostModel, batch: SubBatch) -> Self:
        """By the cost model. The device's decodes are one call over all their contexts, a prefill is one of its own.

        Part of a prompt takes what the whole up to there takes, less what was there already.
        """
        contexts = [chunk.start + 1 for chunk in batch.host_decodes]
        return cls(
            cost.linear_ms(batch.tokens),
            sum(cost.prefill_ms(c.start + c.count) - cost.prefill_ms(c.start) for c in batch.prefills),
            cost.device_decode_ms(sum(chunk.start + 1 for chunk in batch.device_decodes)),
            cost.host_decode_ms(len(contexts), sum(contexts)),
        )

    @property
    def device_attention(self) -> float:
        """Tga."""
        return self.prefill + self.device_decode

    @property
    def device(self) -> float:
        """All that the device does."""
        return self.linear + self.prefill + self.device_decode


def layer_ms(batches: tuple[StageTimes, ...], launch_ms: float = 0.0) -> float:
    """One layer of a step: of one batch one thing after another, of two by NEO's formula."""
    if len(batches) == 1:
        only = batches[0]
        return only.device + (only.host_decode + launch_ms if only.host_decode else 0.0)
    first, second = batches
    host_1 = second.host_decode + launch_ms if second.host_decode else 0.0
    host_0 = first.host_decode + launch_ms if first.host_decode else 0.0
    return max(first.linear, host_1) + max(second.linear + first.device_attention, host_0)


def step_ms(cost: CostModel, step: Step, launch_ms: float = 0.0) -> float:
    """A whole step: its swaps, then all layers, then what comes once.

    Keys and values of a prompt that goes to the host cross the link while the next layer computes: they count no time.
    """
    times = tuple(StageTimes.of(cost, batch) for batch in step.batches)
    moved = sum(swap.sequence.computed for swap in step.swaps)
    tokens = sum(batch.tokens for batch in step.batches)
    layers = layer_ms(times, launch_ms) if times else 0.0
    return cost.layers * (layers + (cost.swap_ms(moved) if moved else 0.0)) + cost.other_ms(tokens)
