"""What a scheduler asks about times. All of one layer, in milliseconds; a step takes `layers` times as long."""

from __future__ import annotations

from typing import Protocol


class CostModel(Protocol):
    """Times of the parts of a step on one machine and model (NEO section 3.2 and its `Predictor`)."""

    @property
    def layers(self) -> int: ...

    def linear_ms(self, tokens: int) -> float:
        """Tl: everything of a layer but attention, for a flat batch of `tokens`. 0 for none."""
        ...

    def prefill_ms(self, tokens: int) -> float:
        """Tpref: attention of one prompt of `tokens` on the device."""
        ...

    def device_decode_ms(self, tokens: int) -> float:
        """Tgdec: attention on the device of decodes whose contexts are `tokens` long together."""
        ...

    def host_decode_ms(self, sequences: int, tokens: int) -> float:
        """Tcdec: attention on the host of so many decodes whose contexts are `tokens` long together."""
        ...

    def swap_ms(self, tokens: int) -> float:
        """Moving the keys and values of `tokens` of one layer between device and host."""
        ...

    def other_ms(self, tokens: int) -> float:
        """What a step takes once beside its layers: embedding, logits, drawing. Not of one layer."""
        ...
