"""A model larger than memory: policy from the roofline model, streamed weights, micro-batches, task order, assembled.

    bytes of memory, machine, workload --(HRM)--> N, mu, r_w --> StreamedWeights, KVCache, MicroBatches, OrderedRunner

The memory is what the process may have in all; what it has before the model comes is taken off. The policy's prediction
stands beside what the runner then measures.
"""

from __future__ import annotations

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
from skyfog_inference.placement.policy import Limits, Policy, Workload, search
from skyfog_inference.runner.ordered import OrderedRunner
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.scheduler.micro_batches import MicroBatches
from skyfog_inference.weights.pages import DTYPES, PageIndex, read_index
from skyfog_inference.weights.streamed import StreamedWeights

LEAST_PREFILL = 256  # tokens of a micro-batch of prompts: fewer would not fill a product of matrices
MOST_PREFILL = 4_096  # more would only take memory
MOST_IN_STEP = 16_384  # tokens of prompts in one step


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
    kept: bool = True  # False: no expert stays in memory, whatever there is


@dataclass(frozen=True, slots=True)
class Offloaded:
    """Ready for an engine."""

    config: ModelConfig
    policy: Policy
    scheduler: MicroBatches
    runner: OrderedRunner

    def predicted(self) -> str:
        """What the policy says of this machine."""
        policy = self.policy
        return (
            f"policy: N={policy.batch}, mu={policy.micro_batch}, r_w={policy.weights_on_gpu:.3f}; "
            f"predicted {policy.tokens_per_s:.1f} tok/s of decode, {policy.step_s:.2f} s a step, bound by {policy.bound}"
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
    prompts = round(policy.micro_batch * asked.work.prompt)
    scheduler = MicroBatches(
        FcfsScheduler(
            blocks,
            max_batched_tokens=policy.batch + min(MOST_IN_STEP, round(policy.batch * asked.work.prompt) + BLOCK_SIZE),
            max_sequences=policy.batch,
        ),
        policy.micro_batch,
        min(MOST_PREFILL, max(LEAST_PREFILL, prompts)),
    )
    return Offloaded(config, policy, scheduler, runner)


def choose_policy(config: ModelConfig, index: PageIndex, machine: Machine, asked: Asked, room: int) -> Policy:
    """By the roofline model, for `room` bytes. Raises ConfigError."""
    size = DTYPES[index.dtype].itemsize
    limits = Limits(first=1, step=1, largest=asked.requests, most=64, requests=asked.requests, kv_bytes=size)
    limits = replace(limits, weight_bytes=size)
    embedding = 0 if config.tied_embeddings else config.vocab_size * config.hidden_size * size  # beside the head
    memory = room - embedding / limits.device_share
    if memory <= 0:
        raise ConfigError(f"memory: {asked.memory / 1e6:.0f} MB are less than the program and the embedding take")
    there = replace(machine, device=replace(machine.device, memory=memory))
    found = search(there, config, asked.work, limits)
    return found if asked.kept else replace(found, weights_on_gpu=0.0)


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
