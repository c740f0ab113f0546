"""Which batch, which micro-batch, what is computed where and what stays on the device (MoE-Lightning, section 4.2).

A policy is the paper's (N, mu, A_g, F_g, r_w, r_c). Latency of a layer in decode is T = max(link, T_cpu, T_gpu)
(equation 12), of attention and feed-forward part alone; each is the larger of its bytes over the bandwidth and its
operations over the peak (equation 14). A micro-batch reads all experts of a layer anew, so the device's time grows with
the number of micro-batches, N / mu, and the link's does not. Tokens per second are N / (layers * T).

What the paper does not print and its four published policies for the L4 fix (tests/unit, golden numbers):

- a GPU is used to 0.86, a CPU to 0.8 of its memory, in decimal gigabytes;
- on the device: weights of attention, output head, r_w of the experts, two layers of the other experts, and what the
  prefill of a micro-batch needs: 4.5 * (experts per token * intermediate + hidden) numbers a prompt token. The 4.5 is
  calibrated (any value from 4.2 to 4.6 gives the same four policies);
- on the host: the other experts, keys and values of N * (prompt + output), hidden states of the N prompts;
- micro-batches of 4, 36, 68, ...: published sizes lie on that grid. Other grids are better by up to 5 %.

Where the host is a disk nothing computes there: attention is the device's, with keys and values in its memory. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from skyfog_core.errors import ConfigError
from skyfog_inference.cost.hrm import Level, Machine
from skyfog_inference.models.config import ModelConfig

WORKING_NUMBERS = 4.5  # a prompt token in prefill, in units of all that one token's experts are wide
FIRST, STEP = 4, 32  # micro-batch sizes: the published grid


@dataclass(frozen=True, slots=True)
class Workload:
    """Averages over the requests."""

    prompt: float  # s, tokens
    generated: float  # n, tokens


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each memory may be used, and which sizes are tried."""

    device_share: float = 0.86
    host_share: float = 0.8
    first: int = FIRST
    step: int = STEP
    largest: int = 2_048  # requests of a micro-batch
    most: int = 128  # micro-batches
    requests: int | None = None  # that there are: no batch is larger
    kv_bytes: float = 2  # a number of the cache
    weight_bytes: float = 2


@dataclass(frozen=True, slots=True)
class Policy:
    """The paper's six variables, and what the model says of them. Times are those of one layer, in seconds."""

    batch: int  # N
    micro_batch: int  # mu
    gpu_attention: bool  # A_g
    gpu_experts: bool  # F_g
    weights_on_gpu: float  # r_w, of the experts
    cache_on_gpu: float  # r_c
    link_s: float
    cpu_s: float
    gpu_s: float
    layers: int

    @property
    def micro_batches(self) -> int:
        return self.batch // self.micro_batch

    @property
    def layer_s(self) -> float:
        """T of equation 12."""
        return max(self.link_s, self.cpu_s, self.gpu_s)

    @property
    def step_s(self) -> float:
        """One token for every request."""
        return self.layers * self.layer_s

    @property
    def bound(self) -> str:
        """What the latency comes from."""
        return max((self.link_s, "link"), (self.gpu_s, "gpu"), (self.cpu_s, "cpu"))[1]

    @property
    def tokens_per_s(self) -> float:
        """Of decode, without prefill."""
        return self.batch / self.step_s

    def decode_tokens_per_s(self, generated: int) -> float:
        """As the paper's tool counts: all tokens over the steps that decode, the first one being prefill's."""
        return self.batch * generated / (self.step_s * (generated - 1))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes and operations of a model, as the latency model wants them."""

    experts: float  # bytes, one layer
    resident: float  # bytes that never move: attention of all layers and the output head
    cache_token: float  # bytes of keys and values of one token of one layer
    work_token: float  # bytes of the device in prefill
    hidden_token: float  # bytes
    expert_flops: float  # a token of one layer
    attention_flops: float  # a token and a token of its context, of one layer

    @classmethod
    def of(cls, model: ModelConfig, limits: Limits) -> Sizes:
        hidden, width = model.hidden_size, model.intermediate_size
        chosen, size = model.experts_per_token or 1, limits.weight_bytes
        queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
        attention = 2 * hidden * (queries + keys)
        return cls(
            experts=max(model.experts, 1) * 3 * hidden * width * size,
            resident=(attention * model.layers + model.vocab_size * hidden) * size,
            cache_token=2 * keys * limits.kv_bytes,
            work_token=WORKING_NUMBERS * (chosen * width + hidden) * size,
            hidden_token=hidden * size,
            expert_flops=chosen * 6 * hidden * width,
            attention_flops=4 * queries,
        )


@dataclass(frozen=True, slots=True)
class _Question:
    machine: Machine
    model: ModelConfig
    work: Workload
    limits: Limits
    sizes: Sizes


def search(machine: Machine, model: ModelConfig, work: Workload, limits: Limits | None = None) -> Policy:
    """The policy of most tokens per second; of equal ones that with the smallest batch.

    Exhaustive: sizes and counts of micro-batches on their grids, both places of attention and experts; r_w and r_c
    follow, since every byte that stays on the device saves a byte of the link. Raises ConfigError where none fits.
    """
    limits = limits or Limits()
    question = _Question(machine, model, work, limits, Sizes.of(model, limits))
    found = max(_policies(question), key=lambda policy: (policy.tokens_per_s, -policy.batch), default=None)
    if found is None:
        gigabytes = ", ".join(f"{level.memory / 1e9:.4g} GB ({level.name})" for level in (machine.device, machine.host))
        raise ConfigError(f"{model.name} with {work.prompt:g} + {work.generated:g} tokens does not fit in {gigabytes}")
    return found


def evaluate(
    machine: Machine,
    model: ModelConfig,
    work: Workload,
    micro_batch: int,
    micro_batches: int,
    limits: Limits | None = None,
    *,
    gpu_attention: bool = False,
    gpu_experts: bool = True,
) -> Policy | None:
    """One policy with as much on the device as fits; None where it does not fit."""
    limits = limits or Limits()
    question = _Question(machine, model, work, limits, Sizes.of(model, limits))
    return _policy(question, micro_batch, micro_batches, gpu_attention, gpu_experts)


def _policies(question: _Question) -> Iterator[Policy]:
    computes = question.machine.host.flops > 0
    limits = question.limits
    most = limits.requests or limits.largest * limits.most
    for gpu_attention in (False, True) if computes else (True,):
        for gpu_experts in (True, False) if computes else (True,):
            for micro_batch in range(limits.first, min(limits.largest, most) + 1, limits.step):
                for count in range(1, min(limits.most, most // micro_batch) + 1):
                    policy = _policy(question, micro_batch, count, gpu_attention, gpu_experts)
                    if policy is None:
                        break  # more micro-batches need more memory
                    yield policy


def _policy(question: _Question, micro_batch: int, count: int, gpu_attention: bool, gpu_experts: bool) -> Policy | None:
    batch = micro_batch * count
    shares = _shares(question, micro_batch, batch, gpu_attention, gpu_experts)
    if shares is None:
        return None
    weights, cache = shares
    machine, sizes, work = question.machine, question.sizes, question.work
    context = batch * (work.prompt + work.generated / 2)
    attention = (context * sizes.cache_token, context * sizes.attention_flops)
    experts = (sizes.experts * (count if gpu_experts else 1), batch * sizes.expert_flops)
    moved, cpu, gpu = 0.0, 0.0, 0.0
    if gpu_attention:
        gpu += _time(machine.device, *attention)
        moved += (1 - cache) * attention[0]
    else:
        cpu += _time(machine.host, *attention)
    if gpu_experts:
        gpu += _time(machine.device, *experts)
        moved += (1 - weights) * sizes.experts
    else:
        cpu += _time(machine.host, *experts)
    link = moved / machine.link
    layers = question.model.layers
    return Policy(batch, micro_batch, gpu_attention, gpu_experts, weights, cache, link, cpu, gpu, layers)


def _time(level: Level, moved: float, operations: float) -> float:
    """Equation 14."""
    return max(moved / level.bandwidth, operations / level.flops if level.flops else math.inf)


def _shares(
    question: _Question, micro_batch: int, batch: int, gpu_attention: bool, gpu_experts: bool
) -> tuple[float, float] | None:
    """(r_w, r_c): the device's memory is filled with experts first, then with cache; None where it does not fit.

    A weight is read in every step, a place in the cache only once a token is there, and r_w also shrinks the two
    buffers: so a byte of weights saves more of the link than a byte of cache.
    """
    sizes, work, layers = question.sizes, question.work, question.model.layers
    cache = batch * (work.prompt + work.generated) * sizes.cache_token * layers
    room = question.limits.device_share * question.machine.device.memory
    room -= sizes.resident + micro_batch * work.prompt * sizes.work_token
    on_disk = question.machine.host.flops == 0
    if on_disk:
        room -= cache
    elif gpu_attention:
        room -= 2 * cache * micro_batch / batch / layers  # this micro-batch's and the next one's, of one layer
    weights, share = 0.0, 1.0 if on_disk else 0.0
    if gpu_experts:
        buffers, every = 2 * sizes.experts, sizes.experts * layers
        if room < min(buffers, every):
            return None
        if room >= every:  # nothing to buffer
            weights, room = 1.0, room - every
        else:  # weights * every + (1 - weights) * buffers is the whole room, but for rounding, which may not say "none"
            weights, room = (room - buffers) / (every - buffers), 0.0
    if room < 0:
        return None
    if gpu_attention and not on_disk:
        share = min(1.0, room / cache) if cache else 1.0
    kept = (1 - weights) * sizes.experts * layers + (1 - share) * cache
    kept += batch * work.prompt * sizes.hidden_token
    return (weights, share) if kept <= question.limits.host_share * question.machine.host.memory else None
