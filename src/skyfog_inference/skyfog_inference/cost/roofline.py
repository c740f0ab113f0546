"""Times of NEO's stages out of data sheets: an analytic CostModel on the roofline of device, host and link.

Every stage takes the larger of its bytes over the bandwidth and its operations over the peak, each times an efficiency
that is stated once for a machine, whatever the batch. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from skyfog_inference.cost.hrm import Level, Machine
from skyfog_inference.models.config import ModelConfig

BYTES = 2  # a number of weights and cache: fp16 or bf16


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of the data sheet's figures that kernels reach, and what a layer costs beside its work."""

    device_flops: float = 0.7
    device_bandwidth: float = 0.8
    host_flops: float = 1.0
    host_bandwidth: float = 0.8
    link: float = 0.8
    launch_ms: float = 0.3  # of a layer: a device that gets its kernels one by one is never faster
    step_ms: float = 3.0  # of a step: scheduling, drawing, tokens in and out


class RooflineCost:
    """One model on one machine; `devices` of them share every layer."""

    def __init__(self, model: ModelConfig, machine: Machine, efficiency: Efficiency, devices: int = 1) -> None:
        self._model = model
        self._devices = devices
        self._efficiency = efficiency
        self._device = _derated(machine.device, efficiency.device_flops, efficiency.device_bandwidth, devices)
        self._host = _derated(machine.host, efficiency.host_flops, efficiency.host_bandwidth, 1)
        self._link = machine.link * efficiency.link * devices
        queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
        feed_forward = 3 * model.hidden_size * model.intermediate_size
        self._numbers = 2 * model.hidden_size * (queries + keys) + feed_forward  # weights of a layer
        self._top = 2 * model.vocab_size * model.hidden_size * BYTES  # read once a step: the head, and as much again
        self._cache = 2 * keys * BYTES  # bytes of one token of one layer
        self._pairs = 4 * queries  # operations of one token and one token of its context

    @property
    def layers(self) -> int:
        return self._model.layers

    def linear_ms(self, tokens: int) -> float:
        if not tokens:
            return 0.0
        took = _ms(self._device, self._numbers * BYTES, 2 * self._numbers * tokens)
        return max(took, self._efficiency.launch_ms)

    def prefill_ms(self, tokens: int) -> float:
        return _ms(self._device, self._cache * tokens, self._pairs * tokens * tokens / 2)

    def device_decode_ms(self, tokens: int) -> float:
        return _ms(self._device, self._cache * tokens, self._pairs * tokens)

    def host_decode_ms(self, sequences: int, tokens: int) -> float:
        return _ms(self._host, self._cache * tokens, self._pairs * tokens)

    def swap_ms(self, tokens: int) -> float:
        return 1e3 * self._cache * tokens / self._link

    def other_ms(self, tokens: int) -> float:
        return 1e3 * self._top / 2 / self._device.bandwidth + self._efficiency.step_ms


def _derated(level: Level, flops: float, bandwidth: float, count: int) -> Level:
    return Level(level.name, level.flops * flops * count, level.bandwidth * bandwidth * count, level.memory * count)


def _ms(level: Level, moved: float, operations: float) -> float:
    return 1e3 * max(moved / level.bandwidth, operations / level.flops)
