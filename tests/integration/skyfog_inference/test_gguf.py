"""GGUF files mean the same model as the safetensors that they were made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from skyfog_core.errors import ConfigError
from skyfog_inference.models.config import ModelConfig, RopeScaling
from skyfog_inference.models.load import ModelFiles, load
from skyfog_inference.weights.source import tensor_names
from support.gguf_files import write_gguf
from support.vocabularies import bytes_backend

PRE = {"llama": "smollm", "qwen2": "qwen2", "mixtral": "llama-bpe"}
TEXT = "It's 2026: naïve café, 日本語 🤖\n\n  x = 12345"


def make(path: Path, folder: Path, **fields: Any) -> ModelConfig:
    files = ModelFiles(str(folder))
    with files.tensors() as source:
        write_gguf(path, files.config, source, fields.pop("pre", PRE[files.config.family]), **fields)
    return files.config


@pytest.mark.parametrize("variant", ["llama-gqa", "llama-mqa-tied", "llama-head-dim", "qwen2", "mixtral"])
def test_config_and_tensors_are_those_of_the_folder(
    variant: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    expected = make(path, model_folder(variant))
    files = ModelFiles(str(path))
    differs = {"name": "tiny", "bos_token_id": 1, "eos_token_ids": files.config.eos_token_ids}
    assert files.config == replace(
        expected, **differs, norm_eps=pytest.approx(expected.norm_eps), rope_theta=pytest.approx(expected.rope_theta)
    )
    with files.tensors() as ours, ModelFiles(str(model_folder(variant))).tensors() as theirs:
        for name in tensor_names(expected):
            assert torch.equal(ours.tensor(name), theirs.tensor(name)), name


@pytest.mark.parametrize("pre", ["smollm", "qwen2", "llama-bpe"])
def test_its_tokenizer_gives_back_the_text(pre: str, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    make(path, model_folder("llama-gqa"), pre=pre)
    tokenizer = ModelFiles(str(path)).tokenizer()
    tokens = tokenizer.encode(TEXT)
    assert tokens[0] == 1  # add_bos_token
    assert tokenizer.decode(tokens[1:]) == TEXT
    end = tokenizer.id_of("<|end|>")
    chat = tokenizer.encode_chat([{"role": "user", "content": "a"}])
    assert (chat[0], chat[-1]) == (tokenizer.encode("a")[0], end)


def test_llama3s_factors_are_understood(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    from skyfog_inference.layers.rotary import frequencies

    files = ModelFiles(str(model_folder("llama-gqa")))
    scaling = RopeScaling("llama3", 32.0)
    cpu = torch.device("cpu")
    factors = frequencies(files.config, cpu) / frequencies(replace(files.config, rope_scaling=scaling), cpu)
    assert factors.max() == 32
    for stored, expected in ((factors, scaling), (factors**2, None)):
        path = tmp_path / "tiny.gguf"
        with files.tensors() as source:
            write_gguf(path, files.config, source, "smollm", factors=stored)
        if expected is not None:
            assert ModelFiles(str(path)).config.rope_scaling == expected
        else:
            with pytest.raises(ConfigError, match="is not Llama 3's scaling"):
                ModelFiles(str(path))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rope.scaling.type": "yarn"}, "should be none or linear, not yarn"),
        ({"attention.head_count": 0}, "head_count: should be at least 1, not 0"),
        ({"attention.head_count_kv": 3}, "head_count_kv: should divide 4, not be 3"),
        ({"rope.dimension_count": 8}, "rope.dimension_count: should be 16, not 8"),
        ({"block_count": "two"}, "block_count: should be of type int, not str"),
    ],
)
def test_fields_that_do_not_fit_are_named(
    fields: dict[str, Any], said: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    make(path, model_folder("llama-gqa"), **fields)
    with pytest.raises(ConfigError, match=said):
        ModelFiles(str(path))


def test_a_tokenizer_of_another_kind_is_refused(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    make(path, model_folder("llama-gqa"), pre="deepseek-llm")
    with pytest.raises(ConfigError, match="pre one of smollm, qwen2, llama-bpe, not gpt2 with deepseek-llm"):
        ModelFiles(str(path)).tokenizer()


@pytest.mark.parametrize("part", [0.0, 0.2, 0.9])
def test_a_cut_file_is_refused(part: float, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    make(path, model_folder("llama-gqa"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ConfigError, match=r"tiny\.gguf"):
        load(str(path))


def test_the_rebuilt_vocabulary_is_the_one_written(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    make(path, model_folder("llama-gqa"), pre="qwen2")
    tokenizer = ModelFiles(str(path)).tokenizer()
    original = bytes_backend()
    assert tokenizer.encode("café é", special=False) == original.encode("café é").ids
