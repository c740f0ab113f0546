"""A mixture of experts larger than its memory draws the same tokens in every task order."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from skyfog_core.errors import ConfigError, ServiceFailed
from skyfog_inference.attention.torch import TorchAttention
from skyfog_inference.engine import Engine
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.models.load import load
from skyfog_inference.placement.order import ORDERS
from skyfog_inference.request import SamplingParams
from skyfog_inference.runner.ordered import OrderedRunner
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.scheduler.micro_batches import MicroBatches
from skyfog_inference.weights.pages import pack, read_index
from skyfog_inference.weights.streamed import StreamedWeights
from support.inference import generate_greedy, least_memory, reference, single_runner

Folders = Callable[[str], Path]

GENERATOR = torch.Generator().manual_seed(3)
PROMPTS = [torch.randint(0, 256, (length,), generator=GENERATOR).tolist() for length in (5, 1, 40, 17, 16, 33, 2)]
NEW = [6, 9, 1, 4, 6, 7, 2]


@pytest.fixture(scope="module")
def packed(model_folder: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(model_folder("mixtral-deep"), tmp_path_factory.mktemp("packed"))


def _engine(
    weights: StreamedWeights,
    order: str = "S1",
    overlap: bool = True,
    sequences: int = 2,
    prefill_tokens: int = 24,
    eos: Sequence[int] = (),
    blocks: int = 40,
) -> Engine:
    kv = KVCache(weights.config, blocks, torch.float32, torch.device("cpu"))
    scheduler = MicroBatches(FcfsScheduler(blocks), sequences, prefill_tokens)
    runner = OrderedRunner(weights, kv, TorchAttention(), order, overlap)
    vocab, context = weights.config.vocab_size, weights.config.max_positions
    return Engine(scheduler, runner, vocab_size=vocab, context=context, eos=eos)


def _drawn(engine: Engine, prompts: Sequence[Sequence[int]], new: Sequence[int]) -> list[list[int]]:
    streams = [
        engine.submit(prompt, SamplingParams(max_tokens=count, temperature=0))
        for prompt, count in zip(prompts, new, strict=True)
    ]
    while engine.turn():
        engine.check()
    tokens = []
    for stream in streams:
        events = list(stream)
        assert events[-1].error is None, events[-1].error
        tokens.append([event.token for event in events if event.token is not None])
    return tokens


@pytest.fixture(scope="module")
def wanted(model_folder: Folders) -> list[list[int]]:
    """What the runner in memory draws, and transformers too."""
    model = load(str(model_folder("mixtral-deep")))
    drawn = [
        generate_greedy(single_runner(model.config, model.weights), [p], n)[0]
        for p, n in zip(PROMPTS, NEW, strict=True)
    ]
    theirs = reference("mixtral-deep")
    for prompt, tokens in zip(PROMPTS, drawn, strict=True):
        ids = torch.tensor([prompt])
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=len(tokens), do_sample=False, pad_token_id=0
        )
        assert out[0, len(prompt) :].tolist() == tokens
    return drawn


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_draws_what_the_runner_in_memory_does(
    packed: Path, wanted: list[list[int]], order: str, overlap: bool
) -> None:
    weights = StreamedWeights(packed, least_memory(packed), ahead=False)
    engine = _engine(weights, order, overlap)
    assert _drawn(engine, PROMPTS, NEW) == wanted
    engine.close()


@pytest.mark.parametrize("sequences", [1, 3, 100])
@pytest.mark.parametrize("experts", ["all", "routed"])
def test_sizes_of_micro_batches_do_not_matter(
    packed: Path, wanted: list[list[int]], sequences: int, experts: str
) -> None:
    page = read_index(packed)[1].layers[0].experts[0].size
    weights = StreamedWeights(packed, least_memory(packed) + 3 * page, ahead=False, experts=experts)  # type: ignore[arg-type]
    engine = _engine(weights, sequences=sequences, prefill_tokens=7 * sequences)
    assert _drawn(engine, PROMPTS, NEW) == wanted
    engine.close()


def test_sequences_that_end_early_leave_their_micro_batch(packed: Path, wanted: list[list[int]]) -> None:
    ends = {wanted[1][2], wanted[5][3]}
    cut = [tokens[: next((at + 1 for at, token in enumerate(tokens) if token in ends), None)] for tokens in wanted]
    assert cut != wanted
    engine = _engine(StreamedWeights(packed, least_memory(packed), ahead=False), eos=sorted(ends))
    assert _drawn(engine, PROMPTS, NEW) == cut
    engine.close()


def test_a_small_cache_takes_turns(packed: Path, wanted: list[list[int]]) -> None:
    engine = _engine(StreamedWeights(packed, least_memory(packed), ahead=False), blocks=4)
    assert _drawn(engine, PROMPTS, NEW) == wanted
    assert engine.metrics().scheduler.preemptions > 0
    engine.close()


def test_a_broken_disk_ends_the_requests_of_that_step_and_no_others(
    packed: Path, wanted: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, broken = os.preadv, threading.Event()

    def flaky(fd: int, buffers: list[memoryview], offset: int) -> int:
        if broken.is_set():
            raise OSError(errno.EIO, "Input/output error")
        return read(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", flaky)
    engine = _engine(StreamedWeights(packed, least_memory(packed), ahead=False))
    broken.set()
    stream = engine.submit(PROMPTS[0], SamplingParams(max_tokens=3, temperature=0))
    while engine.turn():
        engine.check()
    error = list(stream)[-1].error
    assert isinstance(error, ServiceFailed)
    assert "reading at byte" in str(error)
    broken.clear()
    assert _drawn(engine, PROMPTS, NEW) == wanted
    engine.close()


def test_on_a_gpu_with_the_cache_on_the_host_s4_is_refused(packed: Path) -> None:
    weights = StreamedWeights(packed, least_memory(packed))
    kv = KVCache(weights.config, 1, torch.float32, torch.device("cpu"))
    with pytest.raises(ConfigError, match="S4"):
        OrderedRunner(weights, kv, TorchAttention(), "S4", device="meta")
    weights.close()
