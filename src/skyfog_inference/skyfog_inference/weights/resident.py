"""All weights in memory, on one device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch

from skyfog_inference.layers.linear import pack
from skyfog_inference.layers.weights import AttentionWeights, FeedForward, TopWeights
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.weights.source import TensorSource, attention_weights, feed_forward_weights, top_weights

# Matrices of every token. Not the router, which is small, nor the embedding, whose rows are looked up: a head that is
# tied to it becomes a second copy where it is packed.
PACKED = frozenset({"qkv", "output", "gate_up", "down", "head"})
Weights = TypeVar("Weights", AttentionWeights, FeedForward, TopWeights)


@dataclass(frozen=True, slots=True)
class ResidentWeights:
    """A WeightStore that holds everything. `feed_forwards[layer][expert]`."""

    top: TopWeights
    attentions: tuple[AttentionWeights, ...]
    feed_forwards: tuple[tuple[FeedForward, ...], ...]

    def attention(self, layer: int) -> AttentionWeights:
        return self.attentions[layer]

    def feed_forward(self, layer: int, expert: int = 0) -> FeedForward:
        return self.feed_forwards[layer][expert]

    def want(self, layer: int, experts: Iterable[int]) -> None:
        """Nothing to do: all of them are here."""

    def release(self, layer: int) -> None:
        """Nothing to do: all of it stays."""

    def close(self) -> None:
        """Nothing to do: memory goes with the last reference."""


def load_resident(
    config: ModelConfig, source: TensorSource, dtype: torch.dtype, device: torch.device
) -> ResidentWeights:
    """Read all weights, layer by layer, so that no second copy of the model is ever in memory. Raises ConfigError."""
    attentions, feed_forwards = [], []
    for layer in range(config.layers):
        attentions.append(placed(attention_weights(config, source, layer), dtype, device))
        feed_forwards.append(
            tuple(
                placed(feed_forward_weights(config, source, layer, expert), dtype, device)
                for expert in range(max(1, config.experts))
            )
        )
    return ResidentWeights(
        top=placed(top_weights(config, source), dtype, device),
        attentions=tuple(attentions),
        feed_forwards=tuple(feed_forwards),
    )


def placed(weights: Weights, dtype: torch.dtype, device: torch.device) -> Weights:
    """The same weights in this type on this device, packed where that is faster; none is a view of a mapped file."""
    plain = moved(weights, dtype, device)
    values = {field.name: getattr(plain, field.name) for field in fields(plain)}
    for name in PACKED & values.keys():
        values[name] = pack(values[name])
    return type(weights)(**values)


def moved(weights: Weights, dtype: torch.dtype, device: torch.device) -> Weights:
    """The same weights in this type on this device, plain and contiguous; what is tied stays one tensor."""
    copies: dict[int, torch.Tensor] = {}
    values: dict[str, Any] = {}
    for field in fields(weights):
        tensor = getattr(weights, field.name)
        if tensor is not None and id(tensor) not in copies:
            copies[id(tensor)] = tensor.to(device=device, dtype=dtype, copy=True).contiguous()
        values[field.name] = None if tensor is None else copies[id(tensor)]
    return type(weights)(**values)
