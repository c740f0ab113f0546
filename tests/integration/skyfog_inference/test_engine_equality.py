"""The engine's tokens in fp32 are those of transformers' `generate`, whatever happens to the sequences on the way."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from skyfog_core.clock import ManualClock
from skyfog_inference.engine import Engine
from skyfog_inference.models.load import ModelFiles
from skyfog_inference.request import FinishReason, SamplingParams
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.stream import Stream
from support.inference import reference, single_runner

NEW = 24
MODELS = ["llama-gqa", "mixtral"]
SHARED = 37  # tokens with which half of the prompts begin
LENGTHS = [1, 5, 16, 17, 33, 48, 60, 70]


@dataclass(frozen=True)
class Setting:
    """How much room there is, and what must have happened for the test to mean anything."""

    blocks: int = 64
    host_blocks: int = 0
    tokens: int = 2_048
    sequences: int = 256
    sharing: bool = True
    shares: bool = False
    preempts: bool = False
    swaps: bool = False


SETTINGS = {
    "roomy": Setting(sharing=False),
    "prefix sharing": Setting(sequences=3, shares=True),
    "prompts in chunks of 7": Setting(tokens=7, sharing=False),
    "prompts in chunks of 13, shared": Setting(tokens=13, sequences=3, shares=True),
    "preempted, computed again": Setting(blocks=12, sharing=False, preempts=True),
    "preempted, computed again in chunks, found again": Setting(blocks=12, tokens=19, preempts=True, shares=True),
    "preempted, swapped": Setting(blocks=12, host_blocks=64, sharing=False, preempts=True, swaps=True),
    "preempted, some swapped": Setting(blocks=12, host_blocks=4, tokens=23, preempts=True, swaps=True),
}


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    source = random.Random(3)
    beginning = [source.randrange(1, 250) for _ in range(SHARED)]
    made = [[source.randrange(1, 250) for _ in range(length)] for length in LENGTHS]
    return [beginning + prompt[SHARED:] if len(prompt) > SHARED else prompt for prompt in made]


@pytest.fixture(scope="module")
def expected(prompts: list[list[int]]) -> Callable[[str], list[list[int]]]:
    """By transformers, one prompt at a time."""
    known: dict[str, list[list[int]]] = {}

    def of(variant: str) -> list[list[int]]:
        if variant not in known:
            model = reference(variant)
            known[variant] = [_generate(model, prompt) for prompt in prompts]
        return known[variant]

    return of


def _generate(model: Any, prompt: list[int]) -> list[int]:
    whole = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False, pad_token_id=0)
    tokens: list[int] = whole[0, len(prompt) :].tolist()
    return tokens


class Bench:
    """An engine turned by hand, that counts its swaps."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        files = ModelFiles(str(folder))
        self.runner = single_runner(files.config, files.weights("float32", "cpu"), setting.blocks, setting.host_blocks)
        self.scheduler = FcfsScheduler(
            setting.blocks,
            setting.host_blocks,
            max_batched_tokens=setting.tokens,
            max_sequences=setting.sequences,
            prefix_sharing=setting.sharing,
        )
        self.engine = Engine(
            self.scheduler,
            self.runner,
            vocab_size=files.config.vocab_size,
            context=files.config.max_positions,
            clock=ManualClock(),
        )
        self.swaps = 0
        swap = self.runner.swap

        def counted(one: Any) -> None:
            self.swaps += 1
            swap(one)

        self.runner.swap = counted  # type: ignore[method-assign]

    def turn(self, times: int = 10_000) -> None:
        for _ in range(times):
            if not self.engine.turn():
                return
            self.engine.check()


def greedy(**params: Any) -> SamplingParams:
    return SamplingParams(**{"temperature": 0, "max_tokens": NEW, "ignore_eos": True, **params})


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("variant", MODELS)
def test_tokens_equal_those_of_transformers(
    variant: str,
    setting: Setting,
    prompts: list[list[int]],
    expected: Callable[[str], list[list[int]]],
    model_folder: Callable[[str], Path],
) -> None:
    bench = Bench(model_folder(variant), setting)
    streams = [bench.engine.submit(prompt, greedy()) for prompt in prompts]
    bench.turn()
    assert [[event.token for event in stream.result(0)[0]] for stream in streams] == expected(variant)
    state = bench.scheduler.state()
    assert (state.device_blocks_used, state.host_blocks_used) == (0, 0)
    assert (state.shared_tokens > 0) >= setting.shares
    assert (state.preemptions > 0) == setting.preempts
    assert (bench.swaps > 0) == setting.swaps


@pytest.mark.parametrize("variant", MODELS)
def test_tokens_are_the_same_where_neighbours_are_withdrawn(
    variant: str,
    prompts: list[list[int]],
    expected: Callable[[str], list[list[int]]],
    model_folder: Callable[[str], Path],
) -> None:
    bench = Bench(model_folder(variant), Setting(blocks=14, host_blocks=6, tokens=31))
    kept = [bench.engine.submit(prompt, greedy()) for prompt in prompts]
    dropped = []
    source = random.Random(5)
    for turn in range(60):
        if turn % 3 == 0:
            dropped.append(bench.engine.submit(source.choice(prompts), greedy(), priority=source.choice([0, 1])))
        if dropped and source.random() < 0.3:
            dropped.pop(source.randrange(len(dropped))).close()
        bench.turn(1)
    for stream in dropped:
        stream.close()
    bench.turn()
    assert [[event.token for event in stream.result(0)[0]] for stream in kept] == expected(variant)
    assert bench.engine.metrics().ended[FinishReason.ABORTED] > 5
    assert bench.scheduler.state().device_blocks_used == 0


def test_five_hundred_mixed_requests_leak_nothing_and_all_that_live_are_answered(
    prompts: list[list[int]], expected: Callable[[str], list[list[int]]], model_folder: Callable[[str], Path]
) -> None:
    """Greedy and drawn, of both priorities, with aborts at any time, in a cache that is far too small for them."""
    bench = Bench(model_folder("llama-gqa"), Setting(blocks=20, host_blocks=8, tokens=40, sequences=8))
    source = random.Random(7)
    wanted: list[tuple[Stream, int, SamplingParams]] = []
    while len(wanted) < 500:
        for _ in range(source.randrange(4)):
            number, count = source.randrange(len(prompts)), source.randrange(1, NEW + 1)
            params = greedy(max_tokens=count, temperature=source.choice([0, 0, 0.9]), logprobs=source.choice([None, 2]))
            stream = bench.engine.submit(prompts[number], params, priority=source.choice([0, 0, 1]))
            wanted.append((stream, number, params))
        if wanted and source.random() < 0.2:
            source.choice(wanted[-30:])[0].close()
        bench.turn(source.randrange(1, 6))
    bench.turn()
    answered = 0
    for stream, number, params in wanted:
        events = list(stream)
        if events[-1].finish is FinishReason.ABORTED:
            continue
        answered += 1
        drawn = [event.token for event in events]
        assert len(drawn) == params.max_tokens
        if not params.temperature:
            assert drawn == expected("llama-gqa")[number][: params.max_tokens]
    metrics = bench.engine.metrics()
    assert metrics.ended[FinishReason.LENGTH] == answered
    assert metrics.ended[FinishReason.ABORTED] == len(wanted) - answered
    assert answered > 400
    assert metrics.ended[FinishReason.ABORTED] > 10
    assert metrics.scheduler.preemptions > 0
    assert (metrics.scheduler.device_blocks_used, metrics.scheduler.host_blocks_used) == (0, 0)


@pytest.mark.parametrize("variant", MODELS)
def test_a_seeded_text_in_slices_on_fresh_engines_is_the_whole(
    variant: str, prompts: list[list[int]], model_folder: Callable[[str], Path]
) -> None:
    """As the action asks whichever replica lives: 1, 2, 4, … tokens at a time."""
    params = {"temperature": 0.8, "top_p": 0.95, "seed": 5, "frequency_penalty": 0.4}
    folder = model_folder(variant)
    bench = Bench(folder, Setting(tokens=50))
    wholes = [bench.engine.submit(prompt, greedy(**params)) for prompt in prompts]
    bench.turn()
    # Slices run beside other requests and in other chunks: batches do not matter.
    other = Bench(folder, Setting(blocks=20, tokens=11))
    for prompt, whole in zip(prompts, wholes, strict=True):
        tokens: list[int] = []
        length = 1
        while len(tokens) < NEW:
            count = min(length, NEW - len(tokens))
            sliced = greedy(**{**params, "max_tokens": count, "skip": len(tokens), "partial": True})
            stream = other.engine.submit(prompt + tokens, sliced)
            beside = other.engine.submit(prompts[0], greedy(max_tokens=2))
            other.turn()
            beside.close()
            tokens += [event.token for event in stream.result(0)[0] if event.token is not None]
            length *= 2
        assert tokens == [event.token for event in whole.result(0)[0]]
    assert other.scheduler.state().shared_tokens > 0
