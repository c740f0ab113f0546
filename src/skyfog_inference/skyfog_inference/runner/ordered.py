"""Runs steps of several micro-batches through a model whose experts are streamed, in a task order.

Weights of a layer are loaded once for all micro-batches of a step. Where they come from disk into RAM one processor
computes everything (`order.without_host`); with a GPU, attention and the cache are the host's (A_g = 0, MoE-Lightning's
main setting), queries, keys and values go there and the attended values come back. The latter was not run here: no
CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial

import torch

from skyfog_core.clock import Clock, SteadyClock
from skyfog_core.errors import ConfigError
from skyfog_core.units import S
from skyfog_inference.attention.base import Attention
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.layers import forward
from skyfog_inference.placement.order import ORDERS, Key, Kind, Order, without_host
from skyfog_inference.request import Place
from skyfog_inference.runner import resources
from skyfog_inference.runner.base import StepOutput
from skyfog_inference.runner.batch import flatten
from skyfog_inference.runner.stages import Flow, Stages
from skyfog_inference.scheduler.base import Step, SubBatch
from skyfog_inference.weights.streamed import StreamedWeights


@dataclass(slots=True)
class Stats:
    """Of the steps that decode only, since the start."""

    decode_steps: int = 0
    tokens: int = 0
    decode_s: float = 0.0
    waited_s: float = 0.0  # for weights

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.decode_s


class OrderedRunner:
    """A model, its streamed weights and the cache beside the processor that attends."""

    def __init__(
        self,
        weights: StreamedWeights,
        kv: KVCache,
        attention: Attention,
        order: str = "S1",
        overlap: bool = True,
        device: str = "cpu",
        clock: Clock | None = None,
    ) -> None:
        """Orders are those of `placement.order`. Without `overlap` nothing runs beside another: for comparison.

        Raises ConfigError for S4 where the cache is not beside the processor of the experts.
        """
        self.config = weights.config
        self.weights = weights
        self.device = torch.device(device)
        if order == "S4" and self.device != kv.keys.device:
            raise ConfigError("order: S4 attends on the GPU, and the cache is the host's: one of S1, S2, S3")
        self.device_blocks = kv.blocks
        self.host_blocks = 0
        self.stats = Stats()
        self._clock = clock or SteadyClock()
        self._kv = kv
        self._attention = attention
        self._overlap = overlap
        self._stages = Stages(self.config, weights, self.device)
        self._scale = self.config.head_dim**-0.5
        self._order = cache(partial(_order, order, self.config.layers, self.device == kv.keys.device))

    def execute(self, step: Step) -> StepOutput:
        """Raises OSError where weights cannot be read."""
        assert not step.swaps
        begun, waited = self._clock.now_ns(), self.weights.waited_ns
        with torch.inference_mode():
            self.weights.begin(0)
            passing = [self._begun(batch) for batch in step.batches]
            order = self._order(len(passing))
            resources.run(order, partial(self._perform, passing, order), self._overlap)
            drawn = [self._stages.logits(one) for one in passing if one.batch.sequences]
            logits = torch.cat(drawn) if drawn else torch.empty(0, self.config.vocab_size)
        sequences = tuple(name for one in passing for name in one.batch.sequences)
        took = self._clock.now_ns() - begun
        if not any(batch.prefills for batch in step.batches):
            self.stats.decode_steps += 1
            self.stats.tokens += len(sequences)
            self.stats.decode_s += took / S
            self.stats.waited_s += (self.weights.waited_ns - waited) / S
        return StepOutput(sequences, logits, took)

    def close(self) -> None:
        self.weights.close()

    def _begun(self, batch: SubBatch) -> Flow:
        """Its tokens where the weights are, its blocks where the cache is."""
        flat, device = flatten(batch, {Place.DEVICE: self._kv.keys.device}), self.device
        drawing = None if flat.drawing is None else flat.drawing.to(device)
        tokens, positions = flat.tokens.to(device), flat.positions.to(device)
        return self._stages.begin(replace(flat, tokens=tokens, positions=positions, drawing=drawing))

    def _perform(self, passing: list[Flow], order: Order, key: Key) -> None:
        """One task, by the thread of its resource."""
        layer = key.layer
        if key.kind is Kind.LOAD_WEIGHTS:
            tickets = self.weights.begin(layer % order.layers, key.part, order.pages)
            # The task ends when the reads are in the queue, so that the disk never waits for us between two: who
            # computes waits for each expert.
            for ticket in () if self._overlap else tickets:
                ticket.wait()
            return
        with torch.inference_mode():  # is a thread's own
            one = passing[key.part]
            if key.kind is Kind.PRE_ATTENTION and layer:  # the first layer's came with the embedding
                self._stages.before(layer, one)
            elif key.kind is Kind.OFFLOAD_QKV:
                one.heads = _moved(one.heads, self._kv.keys.device)
                one.attended = one.attended.to(self._kv.keys.device)
            elif key.kind in {Kind.CPU_ATTENTION, Kind.GPU_ATTENTION}:
                self._attend(layer, one)
            elif key.kind is Kind.LOAD_HIDDEN:
                one.attended = one.attended.to(self.device)
            elif key.kind is Kind.POST_ATTENTION:
                self._stages.after(layer, one)
                if key.part == order.micro_batches - 1:
                    self.weights.release(layer)

    def _attend(self, layer: int, one: Flow) -> None:
        heads, part = one.heads, one.batch.parts[0]
        self._kv.write(layer, part.slots, heads.key, heads.value)
        keys, values = self._kv.keys[layer], self._kv.values[layer]
        self._attention(heads.query, keys, values, part.rows, self._scale, one.attended)


def _order(name: str, layers: int, one_processor: bool, micro_batches: int) -> Order:
    order = ORDERS[name](layers, micro_batches)
    return without_host(order) if one_processor else order


def _moved(heads: forward.Heads, device: torch.device) -> forward.Heads:
    return forward.Heads(heads.query.to(device), heads.key.to(device), heads.value.to(device))
