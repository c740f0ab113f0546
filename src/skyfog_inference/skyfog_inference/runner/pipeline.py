"""Runs two sub-batches side by side on two workers, device and host (NEO, arXiv 2411.01142, section 3.1).

Per layer, with `b0` and `b1` the sub-batches; the thread that calls is the device's, one of our own is the host's:

    device   | rest of layer i-1 and queries of layer i, b0 | the same of b1; attention of b0, its prompts included |
    host     | attention of b1's host decodes, layer i-1    | attention of b0's host decodes, layer i               |

Each half ends when both are done. On a CPU "device" and "host" are a core or several each, and queries and results are
handed over as they are. On CUDA they pass through pinned buffers on a stream beside the device's (not run here).
Steps of one sub-batch are run one stage after another. Results are those of `SingleRunner`: the functions are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

import torch

from skyfog_core.clock import Clock, SteadyClock
from skyfog_inference.layers.weights import WeightStore
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.request import Place
from skyfog_inference.runner.base import StepOutput
from skyfog_inference.runner.batch import FlatBatch, Part, flatten
from skyfog_inference.runner.handover import Handover, handover_for
from skyfog_inference.runner.single import Side, SingleRunner
from skyfog_inference.runner.stages import Flow
from skyfog_inference.scheduler.base import Step


@dataclass(slots=True)
class Overlap:
    """How long the two workers worked in steps of two sub-batches, and how long those took, in nanoseconds.

    On CUDA the device's time is that of its launches alone.
    """

    steps: int = 0
    device_ns: int = 0
    host_ns: int = 0
    took_ns: int = 0


class PipelineRunner:
    """A model with a cache on each side; a Runner."""

    def __init__(
        self, config: ModelConfig, weights: WeightStore, device: Side, host: Side, clock: Clock | None = None
    ) -> None:
        self._clock = clock or SteadyClock()
        self._single = SingleRunner(config, weights, device, host, self._clock)
        self.device_blocks = self._single.device_blocks
        self.host_blocks = self._single.host_blocks
        self.overlap = Overlap()
        self._stages = self._single.stages
        self._layers = config.layers
        self._scale = config.head_dim**-0.5
        self._weights = weights
        self._devices = {side: self._single.sides[side].cache.keys.device for side in (Place.DEVICE, Place.HOST)}
        self._handover = handover_for(self._devices[Place.DEVICE])
        self._host = ThreadPoolExecutor(max_workers=1, thread_name_prefix="host-attention")

    def execute(self, step: Step) -> StepOutput:
        if len(step.batches) < 2:
            return self._single.execute(step)
        begun = self._clock.now_ns()
        with torch.inference_mode():
            for swap in step.swaps:
                self._single.swap(swap)
            lanes = self._run(*(flatten(batch, self._devices) for batch in step.batches))
            logits = torch.cat([self._stages.logits(lane.flow) for lane in lanes])
        took_ns = self._clock.now_ns() - begun
        self.overlap.steps += 1
        self.overlap.took_ns += took_ns
        return StepOutput(tuple(name for lane in lanes for name in lane.flow.batch.sequences), logits, took_ns)

    def side(self, place: Place) -> Side:
        """The cache and the attention of one worker."""
        return self._single.sides[place]

    def close(self) -> None:
        """Ends the host's thread, too."""
        self._host.shutdown(wait=True, cancel_futures=True)
        self._single.close()

    def _run(self, first_batch: FlatBatch, second_batch: FlatBatch) -> tuple[_Lane, _Lane]:
        """Both through all layers."""
        first, begun = self._lane(first_batch), []

        def begin() -> None:
            begun.append(self._lane(second_batch))
            self._device_attention(0, first)

        self._half(begin, first, 0)
        (second,) = begun
        for layer in range(self._layers):
            self._half(partial(self._advance_first, layer, first, second), second, layer)
            beyond = layer + 1 == self._layers
            self._half(partial(self._advance_second, layer, first, second), None if beyond else first, layer + 1)
            self._weights.release(layer)
        return first, second

    def _advance_first(self, layer: int, first: _Lane, second: _Lane) -> None:
        """The device's part while the host attends for the second; what the second has on the device, too."""
        self._device_attention(layer, second)
        self._advance(layer, first)

    def _advance_second(self, layer: int, first: _Lane, second: _Lane) -> None:
        """The device's part while the host attends for the first, one layer further."""
        self._advance(layer, second)
        if layer + 1 < self._layers:
            self._device_attention(layer + 1, first)

    def _half(self, device: Callable[[], None], lane: _Lane | None, layer: int) -> None:
        """The device's part beside the host's attention of a lane, until both are done. Raises what either raised."""
        host = None
        if lane is not None and lane.host is not None:
            host = self._host.submit(self._host_attention, layer, lane, lane.host)
        begun = self._clock.now_ns()
        try:
            device()
            self.overlap.device_ns += self._clock.now_ns() - begun
        finally:
            if host is not None:
                wait([host])
        if host is not None and lane is not None:
            host.result()
            lane.handover.receive()

    def _lane(self, batch: FlatBatch) -> _Lane:
        """A sub-batch whose first queries are there."""
        host = next((part for part in batch.parts if part.worker is Place.HOST), None)
        lane = _Lane(self._stages.begin(batch), host, self._handover())
        lane.send()
        return lane

    def _advance(self, layer: int, lane: _Lane) -> None:
        """From a layer's attention to the next one's queries."""
        self._stages.after(layer, lane.flow)
        if layer + 1 < self._layers:
            self._stages.before(layer + 1, lane.flow)
            lane.send()

    def _device_attention(self, layer: int, lane: _Lane) -> None:
        for part in lane.flow.batch.parts:
            if part.worker is Place.DEVICE:
                self._single.attend(layer, part, lane.flow)

    def _host_attention(self, layer: int, lane: _Lane, part: Part) -> None:
        """On the host's thread: store what was handed over, and attend."""
        with torch.inference_mode():
            query, key, value, out = lane.handover.arrived()
            begun = self._clock.now_ns()
            side = self._single.sides[Place.HOST]
            side.cache.write(layer, part.slots, key, value)
            side.attention(query, side.cache.keys[layer], side.cache.values[layer], part.rows, self._scale, out)
            self.overlap.host_ns += self._clock.now_ns() - begun


@dataclass(slots=True)
class _Lane:
    """A sub-batch on its way, and how its decodes reach the host."""

    flow: Flow
    host: Part | None  # its decodes of the host
    handover: Handover

    def send(self) -> None:
        """Hand the host's queries, keys and values over."""
        if self.host is not None:
            which, heads = self.host.tokens, self.flow.heads
            assert isinstance(which, slice), "decodes of the host are a batch's last tokens"
            self.handover.send(heads.query[which], heads.key[which], heads.value[which], self.flow.attended[which])
