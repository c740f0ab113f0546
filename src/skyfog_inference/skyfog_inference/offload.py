"""A model larger than memory: policy from the roofline model, streamed weights, micro-batches, task order, assembled.

    bytes of memory, machine, workload --(HRM)--> N, mu, r_w --> StreamedWeights, KVCache, MicroBatches, OrderedRunner

The memory is what the process may have in all; what it has before the model comes is taken off. The policy's prediction
stands beside what the runner then measures.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from skyfog_core.errors import ConfigError
from skyfog_inference.attention.choose import choose
from skyfog_inference.blocks import BLOCK_SIZE, blocks_for
from skyfog_inference.cost.hrm import Machine
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.placement.policy import Limits, Policy, Sizes, Workload, evaluate
from skyfog_inference.runner.ordered import OrderedRunner
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.scheduler.micro_batches import MicroBatches
from skyfog_inference.weights.pages import DTYPES, PageIndex, read_index
from skyfog_inference.weights.streamed import StreamedWeights

LEAST_PREFILL, MOST_PREFILL = 64, 1_024  # tokens of a micro-batch of prompts: the latter fill a product of matrices
SHARE = 0.95  # of what is there, to be used
EFFICIENCY = 0.5  # of the roofs of a processor
SCRATCH = 96 << 20  # bytes that libraries and the heap take for themselves, as measured
LOGITS_COPIES = 3  # fp32: the model's, and what drawing makes of them
MOST_MICRO_BATCHES, MOST_SEQUENCES = 64, 1_024  # of a step, of a micro-batch
MOST_IN_STEP = 16_384  # tokens of prompts in one step
M_MMAP_THRESHOLD = -3  # of mallopt(3)
MAPPED_ALONE = 1 << 20  # bytes: tensors from here on go back to the system when they are freed

# oneDNN keeps the code of products of a thousand shapes, and reads how many at its first product. Experts have another
# number of rows in every step: that would be hundreds of megabytes beside the plan.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


@dataclass(frozen=True, slots=True)
class Asked:
    """How a model is to be run."""

    memory: int  # bytes of the process
    work: Workload  # averages over the requests
    requests: int  # at once at most
    order: str = "S1"
    overlap: bool = True
    experts: Literal["all", "routed"] = "all"
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Offloaded:
    """Ready for an engine."""

    config: ModelConfig
    policy: Policy
    order: str
    scheduler: MicroBatches
    runner: OrderedRunner

    def predicted(self) -> str:
        """What the policy says of this machine."""
        policy = self.policy
        return (
            f"policy: order {self.order}, N={policy.batch}, mu={policy.micro_batch}, "
            f"r_w={policy.weights_on_gpu:.3f}; predicted "
            f"{policy.tokens_per_s:.1f} tok/s of decode, {policy.step_s:.2f} s a step, bound by {policy.bound}"
        )

    def measured(self) -> str:
        """What came of it so far, beside the prediction."""
        stats = self.runner.stats
        if not stats.decode_steps:
            return "measured: no step of decodes alone"
        rate = stats.tokens_per_s
        return (
            f"measured {rate:.1f} tok/s of decode ({rate / self.policy.tokens_per_s:.0%} of predicted), "
            f"{stats.decode_s / stats.decode_steps:.2f} s a step over {stats.decode_steps} steps, of which "
            f"{stats.waited_s / stats.decode_steps:.2f} s waiting for weights"
        )


def build(folder: Path, machine: Machine, asked: Asked) -> Offloaded:
    """Choose the policy and read what stays. Raises ConfigError where the folder is broken or memory too small."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED_ALONE)
    config, index = read_index(folder)
    dtype = DTYPES[index.dtype]
    room = asked.memory - own_bytes()
    policy = choose_policy(config, index, machine, asked, room)
    blocks = policy.batch * blocks_for(round(asked.work.prompt + asked.work.generated))
    weights = StreamedWeights(
        folder, _weights_cap(index, policy.weights_on_gpu), ahead=False, experts=asked.experts, device=asked.device
    )
    kv = KVCache(config, blocks, dtype, torch.device("cpu"), pinned=asked.device != "cpu")
    runner = OrderedRunner(
        weights, kv, choose(torch.device("cpu"), dtype), asked.order, asked.overlap, device=asked.device
    )
    scheduler = MicroBatches(
        FcfsScheduler(
            blocks,
            max_batched_tokens=policy.batch + step_tokens(policy.batch, asked.work),
            max_sequences=policy.batch,
        ),
        policy.micro_batch,
        prefill_tokens(policy.batch, asked.work),
    )
    return Offloaded(config, policy, asked.order, scheduler, runner)


def choose_policy(config: ModelConfig, index: PageIndex, machine: Machine, asked: Asked, room: int) -> Policy:
    """The policy with which all requests are done first, of `room` bytes; of equal ones that of fewest micro-batches.

    Products of many rows are nearer to the roofs than the model knows, which counts only what they read.

    The roofline model has prompts in micro-batches of as many sequences as decodes. Ours are cut by tokens, so that
    what prefill holds does not grow with the micro-batch: the difference is given back. Raises ConfigError.
    """
    size = DTYPES[index.dtype].itemsize
    limits = Limits(device_share=SHARE, largest=asked.requests, kv_bytes=size, weight_bytes=size)
    sizes, on_gpu = Sizes.of(config, limits), machine.host.flops == 0  # a disk computes nothing
    embedding = 0 if config.tied_embeddings else config.vocab_size * config.hidden_size * size  # beside the head
    flow_bytes = (3 * config.hidden_size + 2 * config.kv_heads * config.head_dim) * size  # a token between two tasks
    found = []
    for batch, micro_batch, parts in _splits(asked.requests):
        other = embedding + SCRATCH + LOGITS_COPIES * batch * config.vocab_size * 4
        other += step_tokens(batch, asked.work) * flow_bytes
        other += (prefill_tokens(batch, asked.work) - micro_batch * asked.work.prompt) * sizes.work_token
        memory = max(1.0, room - other / SHARE)
        there = replace(machine, device=replace(machine.device, memory=memory))
        policy = evaluate(there, config, asked.work, micro_batch, parts, limits, gpu_attention=on_gpu)
        if policy is not None:
            found.append(policy)
    if not found:
        raise ConfigError(
            f"{config.name} with {asked.work.prompt:.0f} + {asked.work.generated:.0f} tokens does not fit: "
            f"{asked.memory / 1e6:.0f} MB, of which {max(0, room) / 1e6:.0f} MB are left when the program has started"
        )
    return min(found, key=lambda one: (round(step_s(one) * math.ceil(asked.requests / one.batch), 6), -one.micro_batch))


def _splits(requests: int) -> Iterator[tuple[int, int, int]]:
    """Batches of requests, sizes of micro-batches and how many: halves, quarters and so on."""
    rounds = 1
    while True:
        batch, parts = -(-requests // rounds), 1
        while parts <= min(batch, MOST_MICRO_BATCHES):
            micro_batch = -(-batch // parts)
            if micro_batch <= MOST_SEQUENCES:
                yield batch, micro_batch, parts
            parts *= 2
        if batch == 1:
            return
        rounds *= 2


def step_s(policy: Policy) -> float:
    """For comparing policies: with both roofs of a processor at half their height, as products of few rows have it."""
    return max(policy.link_s, (policy.cpu_s + policy.gpu_s) / EFFICIENCY)


def step_tokens(requests: int, work: Workload) -> int:
    """Of prompts in one step."""
    return min(MOST_IN_STEP, round(requests * work.prompt) + BLOCK_SIZE)


def prefill_tokens(requests: int, work: Workload) -> int:
    """Tokens of a micro-batch of prompts, whatever decodes are cut into."""
    return min(MOST_PREFILL, max(LEAST_PREFILL, round(requests * work.prompt)))


def _weights_cap(index: PageIndex, share: float) -> int:
    """Bytes of all weights in memory where this share of the experts stays."""
    layers = [sum(page.size for page in layer.experts) for layer in index.layers]
    fixed = index.top.size + sum(layer.attention.size for layer in index.layers)
    if share >= 1:
        return fixed + sum(layers)
    return fixed + max(2 * max(layers), round(share * sum(layers) + (1 - share) * 2 * max(layers)))


def own_bytes() -> int:
    """Memory of this process that is no file's: what it takes before the model comes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
