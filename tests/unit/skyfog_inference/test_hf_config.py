from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skyfog_core.errors import ConfigError
from skyfog_inference.models.config import ModelConfig, RopeScaling
from skyfog_inference.models.hf import read_config

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000,
}
MIXTRAL = LLAMA | {"architectures": ["MixtralForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 2}
QWEN2 = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 128}


def read(folder: Path, values: dict[str, Any]) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(values))
    return read_config(folder)


def test_sizes_that_follow_from_others_are_filled_in(tmp_path: Path) -> None:
    config = read(tmp_path, {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"})
    assert (config.kv_heads, config.head_dim, config.tied_embeddings) == (4, 16, False)


def test_both_spellings_of_rope_are_read(tmp_path: Path) -> None:
    llama3 = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    old = read(tmp_path, LLAMA | {"rope_scaling": llama3 | {"rope_type": "llama3"}})
    new = read(tmp_path, LLAMA | {"rope_parameters": llama3 | {"rope_type": "llama3", "rope_theta": 500_000.0}})
    assert old.rope_scaling == new.rope_scaling == RopeScaling("llama3", 8.0, 1.0, 4.0, 128)
    assert (old.rope_theta, new.rope_theta) == (10_000.0, 500_000.0)


def test_a_window_that_is_in_use_ends_the_context(tmp_path: Path) -> None:
    assert read(tmp_path, MIXTRAL | {"sliding_window": 128}).max_positions == 128
    assert read(tmp_path, MIXTRAL | {"sliding_window": None}).max_positions == 512
    assert read(tmp_path, QWEN2).max_positions == 512  # it has one and does not use it
    assert read(tmp_path, QWEN2 | {"use_sliding_window": True}).max_positions == 128


def test_ends_of_the_text_come_from_both_files(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    assert read(tmp_path, LLAMA | {"eos_token_id": 8}).eos_token_ids == (8, 7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            "not one of LlamaForCausalLM, MixtralForCausalLM, Qwen2ForCausalLM",
        ),
        ({"hidden_size": None}, "hidden_size: input should be a valid integer"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: should divide num_attention_heads, 4"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "should divide hidden_size, 64"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type: should be default, linear or llama3"),
        ({"hidden_act": "gelu"}, "hidden_act: input should be 'silu'"),
        ({"attention_bias": True}, "attention_bias: input should be False"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: input should be None"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps: input should be greater than 0"),
        ({"head_dim": 15}, "head_dim: should be even"),
    ],
)
def test_what_does_not_run_here_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.json") as caught:
        read(tmp_path, LLAMA | changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_local_experts": None}, "num_local_experts and num_experts_per_tok: are missing"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok: should be at most num_local_experts, 8, not 9"),
    ],
)
def test_experts_that_do_not_add_up_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, MIXTRAL | changes)


@pytest.mark.parametrize(("content", "said"), [("{", "is not JSON"), ("[]", "should hold an object, not list")])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_config(tmp_path)
