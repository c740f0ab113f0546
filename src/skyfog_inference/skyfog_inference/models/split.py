"""A mixture of experts out of a dense model: real weights for what is otherwise tested on random ones.

A SwiGLU feed-forward part is a sum over its neurons, so that it may be cut into experts of some neurons each. The
router is all zeros, every expert is on with a share of 1/experts, and `down` is larger by that: the sum over the
experts is what the dense model computes.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from skyfog_core.errors import ConfigError
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.models.hf import rope_values
from skyfog_inference.weights.source import TensorSource, tensor_names

DENSE = re.compile(r"model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight")
EXPERT = re.compile(r"model\.layers\.(\d+)\.block_sparse_moe\.experts\.(\d+)\.(w[123])\.weight")
ROUTER = re.compile(r"model\.layers\.\d+\.block_sparse_moe\.gate\.weight")
PART = {"w1": "gate", "w2": "down", "w3": "up"}


class SplitSource:
    """The tensors of a dense Llama-family model as those of a Mixtral-shaped one."""

    def __init__(self, config: ModelConfig, source: TensorSource, experts: int) -> None:
        """Raises ConfigError where the model is not of that kind, or its neurons cannot be shared out evenly."""
        if config.family != "llama":
            raise ConfigError(f"{source.where}: only models of the Llama family can be split, not {config.family}")
        if experts < 1 or config.intermediate_size % experts:
            raise ConfigError(f"{source.where}: {config.intermediate_size} neurons do not make {experts} equal experts")
        self.where = source.where
        self.config = replace(
            config,
            family="mixtral",
            intermediate_size=config.intermediate_size // experts,
            experts=experts,
            experts_per_token=experts,
        )
        self._source = source
        self._experts = experts

    def __contains__(self, name: str) -> bool:
        if expert := EXPERT.fullmatch(name):
            return int(expert[2]) < self._experts and self._dense(expert) in self._source
        return bool(ROUTER.fullmatch(name)) or (name in self._source and not DENSE.fullmatch(name))

    def tensor(self, name: str) -> torch.Tensor:
        """Raises KeyError for one that is not there, ConfigError for one that cannot be read."""
        if ROUTER.fullmatch(name):
            return torch.zeros(self._experts, self.config.hidden_size)
        if (expert := EXPERT.fullmatch(name)) is None:
            return self._source.tensor(name)
        width, at = self.config.intermediate_size, int(expert[2])
        neurons = slice(at * width, (at + 1) * width)
        dense = self._source.tensor(self._dense(expert))
        return dense[:, neurons] * self._experts if expert[3] == "w2" else dense[neurons]

    def _dense(self, expert: re.Match[str]) -> str:
        return f"model.layers.{expert[1]}.mlp.{PART[expert[3]]}_proj.weight"


def save(source: SplitSource, folder: Path, dtype: torch.dtype) -> None:
    """Write a folder as Hugging Face lays out Mixtral, without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = source.config
    save_file(
        {name: source.tensor(name).to(dtype).contiguous() for name in tensor_names(config)},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    values = {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rope_values(config),
        "tie_word_embeddings": config.tied_embeddings,
        "num_local_experts": config.experts,
        "num_experts_per_tok": config.experts_per_token,
        "sliding_window": None,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids) or None,
        "dtype": str(dtype).removeprefix("torch."),
    }
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
