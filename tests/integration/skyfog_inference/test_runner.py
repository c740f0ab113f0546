"""The runner that does one batch after another: swaps, both tiers, steps that draw nothing, bf16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from skyfog_inference.attention.choose import choose
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.models.load import Model, load
from skyfog_inference.request import Place, Sequence
from skyfog_inference.runner.single import Side, SingleRunner
from skyfog_inference.scheduler.base import Chunk, Step, SubBatch, Swap
from support.inference import generate_greedy, single_runner

CPU = torch.device("cpu")
PROMPT, NEW = list(range(5, 42)), 12


@pytest.fixture(params=["llama-gqa", "mixtral"])
def model(request: pytest.FixtureRequest, model_folder: Callable[[str], Path]) -> Model:
    return load(str(model_folder(request.param)))


def test_a_sequence_goes_on_the_same_wherever_it_lies(model: Model) -> None:
    """Prefilled on the device or straight to the host, moved after every second token, beside another that stays."""
    expected = generate_greedy(single_runner(model.config, model.weights), [PROMPT, PROMPT[::-1]], NEW)
    runner = single_runner(model.config, model.weights, blocks=8, host_blocks=8)
    for first in (Place.DEVICE, Place.HOST):
        moving = Sequence("moving", list(PROMPT), len(PROMPT), NEW, 0, place=first, blocks=[4, 2, 1, 6])
        staying = Sequence("staying", PROMPT[::-1], len(PROMPT), NEW, 0, place=Place.DEVICE, blocks=[0, 3, 5, 7])
        while moving.output_len < NEW:
            swaps: tuple[Swap, ...] = ()
            if moving.output_len % 2:
                target = Place.HOST if moving.place is Place.DEVICE else Place.DEVICE
                blocks = tuple(moving.blocks[::-1])
                swaps = (Swap(moving, moving.place, target, tuple(moving.blocks), blocks),)
                moving.place, moving.blocks = target, list(blocks)
            chunks = [Chunk(one, one.computed, one.remaining, one.place, draws=True) for one in (staying, moving)]
            on_host = moving.place is Place.HOST and not moving.prefilling
            if moving.prefilling:
                batch = SubBatch(prefills=tuple(chunks))
            else:
                batch = SubBatch((), tuple(chunks[: 2 - on_host]), tuple(chunks[2 - on_host :]))
            output = runner.execute(Step((batch,), swaps))
            assert output.sequences == ("staying", "moving")
            for chunk, row in zip(chunks, output.logits, strict=True):
                chunk.sequence.computed = len(chunk.sequence.tokens)
                chunk.sequence.tokens.append(int(row.argmax()))
        assert [moving.tokens[len(PROMPT) :], staying.tokens[len(PROMPT) :]] == expected


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_may_draw_nothing_or_only_swap(dtype: str, model_folder: Callable[[str], Path]) -> None:
    model = load(str(model_folder("mixtral")), dtype=dtype)
    runner = single_runner(model.config, model.weights, blocks=4, host_blocks=4)
    sequence = Sequence("a", list(PROMPT), len(PROMPT), NEW, 0, place=Place.DEVICE, blocks=[0, 1, 2])
    output = runner.execute(Step((SubBatch((Chunk(sequence, 0, 9, Place.DEVICE, draws=False),)),)))
    assert (output.sequences, tuple(output.logits.shape)) == ((), (0, model.config.vocab_size))
    output = runner.execute(Step((), (Swap(sequence, Place.DEVICE, Place.HOST, (0,), (3,)),)))
    assert (output.sequences, tuple(output.logits.shape)) == ((), (0, model.config.vocab_size))
    assert runner.sides[Place.HOST].cache.keys[:, 3, :, :9].any()


@pytest.mark.parametrize("variant", ["llama-gqa", "qwen2", "mixtral"])
def test_in_bf16_logits_are_near_those_in_fp32(variant: str, model_folder: Callable[[str], Path]) -> None:
    """By the kernel and packed matrices where they are: what runs in production."""
    logits = []
    for dtype in ("float32", "bfloat16"):
        model = load(str(model_folder(variant)), dtype=dtype)
        cache = KVCache(model.config, 4, model.weights.top.norm.dtype, CPU)
        runner = SingleRunner(model.config, model.weights, Side(cache, choose(CPU, cache.keys.dtype)))
        sequence = Sequence("a", list(PROMPT), len(PROMPT), NEW, 0, place=Place.DEVICE, blocks=[2, 0, 1])
        chunk = Chunk(sequence, 0, len(PROMPT), Place.DEVICE, draws=True)
        logits.append(runner.execute(Step((SubBatch((chunk,)),))).logits)
    exact, rounded = logits
    assert (exact - rounded).abs().max() < 0.1 * exact.std()
    assert rounded.dtype is torch.float32
