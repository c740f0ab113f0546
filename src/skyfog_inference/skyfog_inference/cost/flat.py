"""Costs that are constants or proportional, so that a test reads like arithmetic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FlatCost:
    """Milliseconds of one layer: `base` for any work at all of a kind, and so much a token, or a sequence, beside."""

    layers: int = 1
    linear_base_ms: float = 0.0
    linear_token_ms: float = 0.0
    prefill_token_ms: float = 0.0
    device_token_ms: float = 0.0
    host_sequence_ms: float = 0.0
    host_token_ms: float = 0.0
    swap_token_ms: float = 0.0
    other_base_ms: float = 0.0

    def linear_ms(self, tokens: int) -> float:
        return self.linear_base_ms + self.linear_token_ms * tokens if tokens else 0.0

    def prefill_ms(self, tokens: int) -> float:
        return self.prefill_token_ms * tokens

    def device_decode_ms(self, tokens: int) -> float:
        return self.device_token_ms * tokens

    def host_decode_ms(self, sequences: int, tokens: int) -> float:
        return self.host_sequence_ms * sequences + self.host_token_ms * tokens

    def swap_ms(self, tokens: int) -> float:
        return self.swap_token_ms * tokens

    def other_ms(self, tokens: int) -> float:
        return self.other_base_ms if tokens else 0.0
