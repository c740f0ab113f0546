"""NEO's scheduler on two workers: tokens are those of transformers, with swaps and two batches forced."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from skyfog_inference.attention.torch import TorchAttention
from skyfog_inference.models.load import load
from skyfog_inference.request import Place, Sequence
from skyfog_inference.runner.pipeline import PipelineRunner
from skyfog_inference.runner.single import Side, SingleRunner
from skyfog_inference.scheduler.base import Step, Swap
from skyfog_inference.scheduler.neo import NeoScheduler
from skyfog_inference.scheduler.neo_rules import NeoConfig
from support.inference import VOCAB, reference
from support.neo import HIDES, USELESS, pipeline, serve, sides

NEW = 30
LENGTHS = (40, 17, 5, 16, 70, 33, 1, 28)


def prompts(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(0, VOCAB, (length,), generator=generator).tolist() for length in lengths]


@pytest.mark.parametrize("variant", ["llama-gqa", "qwen2", "mixtral"])
def test_two_batches_with_swaps_draw_what_transformers_does(variant: str, model_folder: Callable[[str], Path]) -> None:
    theirs, model = reference(variant), load(str(model_folder(variant)))
    config = NeoConfig(max_batched_tokens=64, saturating_tokens=16, launch_ms=0.0)
    with pipeline(model.config, model.weights, 12, 60) as runner:
        ours, seen = serve(NeoScheduler(config, HIDES, 12, 60), runner, prompts(), NEW)
        assert runner.overlap.steps == seen["two"]
    for prompt, tokens in zip(prompts(), ours, strict=True):
        whole = theirs.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)
        assert tokens == whole[0, len(prompt) :].tolist()
    assert seen.keys() >= {"out", "in", "two", "host prefill", "piece", "host decode of b0", "host decode of b1"}


def test_the_device_alone_with_a_useless_host_draws_the_same(model_folder: Callable[[str], Path]) -> None:
    model = load(str(model_folder("llama-gqa")))
    config = NeoConfig(max_batched_tokens=200, launch_ms=0.0)
    with pipeline(model.config, model.weights, 10, 60) as runner:
        ours, seen = serve(NeoScheduler(config, USELESS, 10, 60), runner, prompts(), NEW)
    assert seen["two"] == 0
    assert min(seen["out"], seen["in"]) > 0
    roomy = SingleRunner(model.config, model.weights, *sides(model.config, 200, 1))
    assert ours == serve(NeoScheduler(config, USELESS, 200, 1), roomy, prompts(), NEW)[0]


def test_without_a_host_sequences_are_computed_anew_and_draw_the_same(model_folder: Callable[[str], Path]) -> None:
    model = load(str(model_folder("llama-gqa")))
    tight = SingleRunner(model.config, model.weights, sides(model.config, 12, 0)[0])
    roomy = SingleRunner(model.config, model.weights, sides(model.config, 200, 0)[0])
    config = NeoConfig(max_batched_tokens=200)
    scheduler = NeoScheduler(config, HIDES, 12, 0)
    ours, _ = serve(scheduler, tight, prompts(), NEW)
    assert scheduler.state().preemptions > 0
    assert ours == serve(NeoScheduler(config, HIDES, 200, 0), roomy, prompts(), NEW)[0]


def test_one_larger_than_the_device_lives_on_the_host(model_folder: Callable[[str], Path]) -> None:
    model = load(str(model_folder("llama-gqa")))
    config = NeoConfig(max_batched_tokens=30, launch_ms=0.0)
    asked = prompts((100, 5, 90))
    with pipeline(model.config, model.weights, 4, 40) as runner:
        ours, seen = serve(NeoScheduler(config, HIDES, 4, 40), runner, asked, NEW)
    assert seen["host prefill"] > 2
    roomy = SingleRunner(model.config, model.weights, sides(model.config, 200, 0)[0])
    assert ours == serve(NeoScheduler(config, HIDES, 200, 0), roomy, asked, NEW)[0]


def test_a_shared_beginning_on_either_tier_draws_the_same(model_folder: Callable[[str], Path]) -> None:
    model = load(str(model_folder("llama-gqa")))
    beginning = prompts((48,))[0]
    asked = [beginning + [index] * 3 for index in range(8)]
    config = NeoConfig(max_batched_tokens=60, saturating_tokens=1_000, launch_ms=0.0)
    with pipeline(model.config, model.weights, 9, 80) as runner:
        scheduler = NeoScheduler(config, HIDES, 9, 80)
        ours, _ = serve(scheduler, runner, asked, NEW)
        assert scheduler.state().shared_tokens > 0
    apart = SingleRunner(model.config, model.weights, sides(model.config, 200, 0)[0])
    assert ours == serve(NeoScheduler(config, HIDES, 200, 0, sharing=False), apart, asked, NEW)[0]


def test_a_fault_on_either_worker_is_raised_and_leaves_nobody_working(model_folder: Callable[[str], Path]) -> None:
    class Fault(TorchAttention):
        """Fails from the fifth call."""

        calls = 0

        def __call__(self, *arguments: torch.Tensor) -> None:  # type: ignore[override]
            self.calls += 1
            if self.calls > 4:
                raise OSError("broken")
            super().__call__(*arguments)  # type: ignore[arg-type]

    model = load(str(model_folder("llama-gqa")))
    config = NeoConfig(max_batched_tokens=200, launch_ms=0.0)
    for broken in (0, 1):
        both = sides(model.config, 6, 60)
        both[broken] = Side(both[broken].cache, Fault())
        with (
            closing(PipelineRunner(model.config, model.weights, *both)) as runner,
            pytest.raises(OSError, match="broken"),
        ):
            serve(NeoScheduler(config, HIDES, 6, 60), runner, prompts(), NEW)


def test_a_swap_moves_whole_blocks_there_and_back(model_folder: Callable[[str], Path]) -> None:
    model = load(str(model_folder("llama-gqa")))
    with pipeline(model.config, model.weights, 4, 4) as runner:
        device, host = (runner.side(place).cache for place in (Place.DEVICE, Place.HOST))
        device.keys.copy_(torch.randn_like(device.keys))
        before = device.keys.clone()
        sequence = Sequence("s", [0] * 30, 30, 1, 0)
        runner.execute(Step((), (Swap(sequence, Place.DEVICE, Place.HOST, (0, 2), (3, 1)),)))
        assert torch.equal(host.keys[:, [3, 1]], before[:, [0, 2]])
        device.keys.zero_()
        runner.execute(Step((), (Swap(sequence, Place.HOST, Place.DEVICE, (3, 1), (1, 0)),)))
        assert torch.equal(device.keys[:, [1, 0]], before[:, [0, 2]])
