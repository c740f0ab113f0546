"""Tiny random models as transformers writes them, and the shortest way from tokens to tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tqdm import tqdm

from skyfog_core.clock import ManualClock
from skyfog_inference.attention.torch import TorchAttention
from skyfog_inference.blocks import blocks_for
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.layers.weights import WeightStore
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.request import Place
from skyfog_inference.request import Sequence as Tokens
from skyfog_inference.runner.base import Runner
from skyfog_inference.runner.single import Side, SingleRunner
from skyfog_inference.scheduler.base import Chunk, Step, SubBatch
from skyfog_inference.weights.pages import read_index

# The thread that watches the progress bars of transformers would run on into unit tests, where nothing may wait.
tqdm.monitor_interval = 0

SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>")
END = 256  # the id of the first of them; below it, tokens are bytes
VOCAB = END + len(SPECIAL)
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,  # far from uniform logits, so that the most likely token is clear
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# By name: the family and what differs from SIZES.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-gqa": ("Llama", {}),
    "llama-mha": ("Llama", {"num_key_value_heads": 4}),
    "llama-mqa-tied": ("Llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "llama-head-dim": ("Llama", {"head_dim": 32}),
    "llama3-rope": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama-linear-rope": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}},
    ),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "use_sliding_window": False}),
    "mixtral": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "mixtral-deep": (  # more layers than a buffer of two holds
        "Mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None, "num_hidden_layers": 5},
    ),
    "mixtral-top3": ("Mixtral", {"num_local_experts": 6, "num_experts_per_tok": 3, "sliding_window": None}),
}


def reference(variant: str, seed: int = 0, **changes: Any) -> Any:
    """A random model of transformers, in fp32."""
    import transformers

    family, differs = VARIANTS[variant]
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **differs, **changes})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for name, weight in model.named_parameters():
        if name.endswith(("norm.weight", "bias")):  # 1 and 0 when new, which would hide that they are left out
            torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.3)
    return model


def write_model(folder: Path, variant: str, **changes: Any) -> Path:
    """Save a random model as transformers does, with a tokenizer of bytes and a chat template."""
    reference(variant, **changes).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Every byte is a token, in the order of the alphabet; then come the special tokens."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    backend.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": SPECIAL[0], "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of the random models by variant, each written once."""
    made: dict[str, Path] = {}

    def folder(variant: str) -> Path:
        if variant not in made:
            made[variant] = write_model(tmp_path_factory.mktemp(variant), variant)
        return made[variant]

    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests share the machine."""
    torch.set_num_threads(1)


def single_runner(
    config: ModelConfig,
    weights: WeightStore,
    blocks: int = 64,
    host_blocks: int = 0,
    dtype: torch.dtype = torch.float32,
) -> SingleRunner:
    """On the CPU, by torch alone."""
    sides = [
        Side(KVCache(config, count, dtype, torch.device("cpu")), TorchAttention())
        for count in (blocks, host_blocks)
        if count
    ]
    return SingleRunner(config, weights, *sides, clock=ManualClock())


def generate_greedy(runner: Runner, prompts: Sequence[Sequence[int]], new: int, chunk: int = 7) -> list[list[int]]:
    """The most likely tokens of several prompts at once: prompts in chunks, mixed with the decodes of the others."""
    sequences, first = [], 0
    for index, prompt in enumerate(prompts):
        sequence = Tokens(f"s{index}", list(prompt), len(prompt), new, 0, place=Place.DEVICE)
        held = blocks_for(len(prompt) + new)
        sequence.blocks = list(range(first, first + held))[::-1]  # not in order, as after some use
        first += held
        sequences.append(sequence)
    assert first <= runner.device_blocks
    while live := [sequence for sequence in sequences if sequence.output_len < new]:
        chunks = [_next_chunk(sequence, chunk) for sequence in live]
        prefills = tuple(one for one in chunks if one.count > 1 or not one.draws)
        decodes = tuple(one for one in chunks if one not in prefills)
        output = runner.execute(Step((SubBatch(prefills, decodes),)))
        for one in chunks:
            one.sequence.computed += one.count
        by_id = {sequence.id: sequence for sequence in live}
        for name, row in zip(output.sequences, output.logits, strict=True):
            by_id[name].tokens.append(int(row.argmax()))
    return [sequence.tokens[sequence.prompt_len :] for sequence in sequences]


def plain(weight: torch.Tensor) -> torch.Tensor:
    """A matrix as it was before it was laid out for oneDNN, to the bit."""
    return weight.to_dense() if weight.is_mkldnn else weight


def _next_chunk(sequence: Tokens, most: int) -> Chunk:
    count = min(most, sequence.remaining)
    return Chunk(sequence, sequence.computed, count, Place.DEVICE, draws=count == sequence.remaining)


def least_memory(packed: Path) -> int:
    """Bytes with which a packed model can be streamed at all: what stays, and two layers of experts."""
    _config, index = read_index(packed)
    fixed = index.top.size + sum(layer.attention.size for layer in index.layers)
    return fixed + 2 * max(sum(page.size for page in layer.experts) for layer in index.layers)
