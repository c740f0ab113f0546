"""NEO's scheduler and its two workers on models of the tests, and what their steps are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

import torch

from skyfog_inference.attention.choose import choose
from skyfog_inference.cost.flat import FlatCost
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.layers.weights import WeightStore
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.request import Place, Sequence
from skyfog_inference.runner.base import Runner
from skyfog_inference.runner.pipeline import PipelineRunner
from skyfog_inference.runner.single import Side
from skyfog_inference.scheduler.base import Step
from skyfog_inference.scheduler.neo import NeoScheduler

CPU = torch.device("cpu")
# A host that always hides, so that two batches run whenever it has decodes.
HIDES = FlatCost(layers=2, linear_base_ms=100.0, linear_token_ms=0.01, host_sequence_ms=0.1)
# One that never does, so that the device runs alone and sequences come and go.
USELESS = FlatCost(layers=2, linear_base_ms=1.0, linear_token_ms=0.01, host_sequence_ms=100.0)


def sides(config: ModelConfig, device_blocks: int, host_blocks: int) -> list[Side]:
    """The device's and the host's, in fp32, one thread each."""
    return [
        Side(KVCache(config, blocks, torch.float32, CPU), choose(CPU, torch.float32, 1))
        for blocks in (device_blocks, host_blocks)
    ]


@contextmanager
def pipeline(
    config: ModelConfig, weights: WeightStore, device_blocks: int, host_blocks: int
) -> Iterator[PipelineRunner]:
    """Two workers."""
    device, host = sides(config, device_blocks, host_blocks)
    with closing(PipelineRunner(config, weights, device, host)) as runner:
        yield runner


def serve(
    scheduler: NeoScheduler, runner: Runner, asked: list[list[int]], new: int
) -> tuple[list[list[int]], Counter[str]]:
    """The most likely tokens, and what steps were made of."""
    sequences = {f"s{i}": Sequence(f"s{i}", list(p), len(p), new, 0) for i, p in enumerate(asked)}
    seen: Counter[str] = Counter()
    for sequence in sequences.values():
        scheduler.add(sequence, 0)
    while scheduler.has_work():
        step = scheduler.schedule(0)
        assert step is not None
        seen += what_is_in(step)
        output = runner.execute(step)
        drawn = dict(zip(output.sequences, output.logits.argmax(-1).tolist(), strict=True))
        ended = [name for name in drawn if sequences[name].output_len + 1 == new]
        scheduler.on_step(step, drawn, ended, 0, 0)
        scheduler.check()
    return [sequence.tokens[sequence.prompt_len :] for sequence in sequences.values()], seen


def what_is_in(step: Step) -> Counter[str]:
    """How often each of the things happens that a test wants to have forced."""
    seen = Counter(
        {
            "out": sum(swap.target is Place.HOST for swap in step.swaps),
            "in": sum(swap.target is Place.DEVICE for swap in step.swaps),
            "two": len(step.batches) == 2,
            "host prefill": sum(c.place is Place.HOST for batch in step.batches for c in batch.prefills),
            "piece": sum(not c.draws for c in step.chunks),
        }
    )
    if len(step.batches) == 2:
        seen["host decode of b0"] += len(step.batches[0].host_decodes)
        seen["host decode of b1"] += len(step.batches[1].host_decodes)
    return seen
