"""Runs a step's sub-batches one after another; attention of each tier by that tier's back end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from skyfog_core.clock import Clock, SteadyClock
from skyfog_inference.attention.base import Attention
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.layers import forward
from skyfog_inference.layers.rotary import angles, frequencies
from skyfog_inference.layers.weights import WeightStore
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.request import Place
from skyfog_inference.runner.base import StepOutput
from skyfog_inference.runner.batch import FlatBatch, Part, flatten
from skyfog_inference.scheduler.base import Step, Swap


@dataclass(frozen=True, slots=True)
class Side:
    """One tier of keys and values, and what computes attention there."""

    cache: KVCache
    attention: Attention


class SingleRunner:
    """A model, its weights and one or two caches."""

    def __init__(
        self,
        config: ModelConfig,
        weights: WeightStore,
        device: Side,
        host: Side | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.weights = weights
        self.sides = {Place.DEVICE: device} | ({Place.HOST: host} if host is not None else {})
        self.device_blocks = device.cache.blocks
        self.host_blocks = host.cache.blocks if host is not None else 0
        self._devices = {place: side.cache.keys.device for place, side in self.sides.items()}
        self._clock = clock or SteadyClock()
        self._frequencies = frequencies(config, self._devices[Place.DEVICE])
        self._scale = config.head_dim**-0.5

    def execute(self, step: Step) -> StepOutput:
        begun = self._clock.now_ns()
        sequences: list[str] = []
        drawn = []
        with torch.inference_mode():
            for swap in step.swaps:
                self.swap(swap)
            for batch in step.batches:
                flat = flatten(batch, self._devices)
                drawn.append(self._forward(flat))
                sequences.extend(flat.sequences)
            logits = torch.cat(drawn) if len(drawn) > 1 else drawn[0] if drawn else self._nothing()
        return StepOutput(tuple(sequences), logits, self._clock.now_ns() - begun)

    def swap(self, swap: Swap) -> None:
        """Copy the keys and values of a sequence from one tier to the other."""
        target, source = self.sides[swap.target].cache, self.sides[swap.source].cache
        target.copy_from(source, swap.source_blocks, swap.target_blocks)

    def close(self) -> None:
        self.weights.close()

    def _nothing(self) -> torch.Tensor:
        return torch.empty(0, self.config.vocab_size, dtype=torch.float32)

    def _forward(self, batch: FlatBatch) -> torch.Tensor:
        """fp32 [drawing, vocab]."""
        config, top = self.config, self.weights.top
        hidden = forward.embed(top, batch.tokens)
        turned = angles(self._frequencies, batch.positions, hidden.dtype)
        for layer in range(config.layers):
            weights = self.weights.attention(layer)
            heads = forward.pre_attention(config, weights, hidden, turned)
            attended = torch.empty_like(heads.query, memory_format=torch.contiguous_format)
            for part in batch.parts:
                self._attend(layer, part, heads, attended)
            hidden, normed = forward.post_attention(config, weights, hidden, attended)
            if weights.router is None:
                hidden = hidden + forward.feed_forward(self.weights.feed_forward(layer), normed)
            else:
                routing = forward.route(config, weights.router, normed)
                hidden = hidden + forward.experts(routing, partial(self.weights.feed_forward, layer), normed)
            self.weights.release(layer)
        if batch.drawing is not None:
            hidden = hidden[batch.drawing]
        return forward.logits(config, top, hidden)

    def _attend(self, layer: int, part: Part, heads: forward.Heads, attended: torch.Tensor) -> None:
        """Store the part's keys and values in its tier, and attend there."""
        side = self.sides[part.place]
        keys, values = side.cache.keys[layer], side.cache.values[layer]
        query, key, value = (
            flat if part.tokens is None else flat[part.tokens] for flat in (heads.query, heads.key, heads.value)
        )
        if part.tokens is None and query.device == keys.device:
            side.cache.write(layer, part.slots, key, value)
            side.attention(query, keys, values, part.rows, self._scale, attended)
            return
        side.cache.write(layer, part.slots, key.to(keys.device), value.to(keys.device))
        query = query.to(keys.device)
        out = torch.empty_like(query)
        side.attention(query, keys, values, part.rows, self._scale, out)
        attended[part.tokens if part.tokens is not None else slice(None)] = out.to(attended.device)
