"""Runs a step's sub-batches one after another; attention of each tier by that tier's back end."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from skyfog_core.clock import Clock, SteadyClock
from skyfog_inference.attention.base import Attention, Rows
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.layers.weights import WeightStore
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.request import Place
from skyfog_inference.runner.base import StepOutput
from skyfog_inference.runner.batch import FlatBatch, Part, flatten
from skyfog_inference.runner.stages import Flow, Stages
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
        self.stages = Stages(config, weights, self._devices[Place.DEVICE])
        self._scale = config.head_dim**-0.5
        own = self._devices[Place.DEVICE]
        self._stream = torch.cuda.Stream(own) if own.type == "cuda" else None

    def execute(self, step: Step) -> StepOutput:
        begun = self._clock.now_ns()
        if self._stream is None:
            sequences, logits = self._execute(step)
        else:
            sequences, logits = self._execute_aside(step, self._stream)
        return StepOutput(tuple(sequences), logits, self._clock.now_ns() - begun)

    def _execute_aside(self, step: Step, stream: torch.cuda.Stream) -> tuple[list[str], torch.Tensor]:
        """On a stream of its own, beside which others may copy. Needs CUDA: not run in CI."""
        asker = torch.cuda.current_stream(stream.device)
        stream.wait_stream(asker)
        with torch.cuda.stream(stream):
            sequences, logits = self._execute(step)
        stream.synchronize()  # for the time it took, and since the host's caches may be written next
        logits.record_stream(asker)
        return sequences, logits

    def _execute(self, step: Step) -> tuple[list[str], torch.Tensor]:
        """Whose logits, and those: fp32 [drawing, vocab]."""
        sequences: list[str] = []
        drawn = []
        with torch.inference_mode():
            for swap in step.swaps:
                self.swap(swap)
            for batch in step.batches:
                flat = flatten(batch, self._devices)
                drawn.append(self._forward(flat))
                sequences.extend(flat.sequences)
            return sequences, torch.cat(drawn) if len(drawn) > 1 else drawn[0] if drawn else self._nothing()

    def swap(self, swap: Swap) -> None:
        """Copy the keys and values of a sequence from one tier to the other."""
        target, source = self.sides[swap.target].cache, self.sides[swap.source].cache
        target.copy_from(source, swap.source_blocks, swap.target_blocks)

    def close(self) -> None:
        self.weights.close()

    def _nothing(self) -> torch.Tensor:
        return torch.empty(0, self.config.vocab_size, device=self._devices[Place.DEVICE])

    def _forward(self, batch: FlatBatch) -> torch.Tensor:
        """fp32 [drawing, vocab]."""
        flow = self.stages.begin(batch)
        for layer in range(self.config.layers):
            if layer:
                self.stages.before(layer, flow)
            for part in batch.parts:
                self.attend(layer, part, flow)
            self.stages.after(layer, flow)
            self.weights.release(layer)
        return self.stages.logits(flow)

    def attend(self, layer: int, part: Part, flow: Flow) -> None:
        """Store a part's keys and values in its tier, and attend with its worker's back end, where that computes."""
        cache, device = self.sides[part.place].cache, self._devices[part.worker]
        keys, values, rows = cache.keys[layer], cache.values[layer], part.rows
        heads, which = flow.heads, part.tokens
        cache.write(layer, part.slots, heads.key[which].to(keys.device), heads.value[which].to(keys.device))
        if keys.device != device:
            keys, values, rows = brought(keys, values, rows, device)
        attention, query = self.sides[part.worker].attention, heads.query[which].to(device)
        if isinstance(which, slice) and flow.attended.device == device:
            attention(query, keys, values, rows, self._scale, flow.attended[which])
            return
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        attention(query, keys, values, rows, self._scale, out)
        flow.attended[which] = out.to(flow.attended.device)


def brought(
    keys: torch.Tensor, values: torch.Tensor, rows: Rows, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, Rows]:
    """The blocks of some sequences on another device, and where they lie there. Not run where all is on the CPU."""
    blocks, places = torch.unique(rows.tables, return_inverse=True)
    there = Rows(rows.starts.to(device), rows.lengths.to(device), places.to(device=device, dtype=torch.int32))
    return keys[blocks].to(device), values[blocks].to(device), there
