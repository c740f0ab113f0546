"""GGUF files of the architectures llama and qwen2: their config, and tensors by their Hugging Face names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from gguf import GGUFReader, dequantize

from skyfog_core.errors import ConfigError, plain_reason
from skyfog_inference.layers.rotary import frequencies
from skyfog_inference.models.config import ModelConfig, RopeScaling

ARCHITECTURES = ("llama", "qwen2")
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
EXPERT = re.compile(r"block_sparse_moe\.experts\.(\d+)\.(w[123])\.weight")
PARTS = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "block_sparse_moe.gate.weight": "ffn_gate_inp.weight",
} | {f"self_attn.{part}_proj.{kind}": f"attn_{part}.{kind}" for part in "qkv" for kind in ("weight", "bias")}
STACKS = {"w1": "ffn_gate_exps.weight", "w2": "ffn_down_exps.weight", "w3": "ffn_up_exps.weight"}
T = TypeVar("T")


class GGUFFile:
    """An open file: its fields, and a TensorSource."""

    def __init__(self, path: Path, name: str = "") -> None:
        """Raises ConfigError for what cannot be read, or is no model that runs here."""
        self.where = str(path)
        try:
            reader = GGUFReader(path)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or plain_reason(error)}") from None
        except Exception as error:  # noqa: BLE001 a broken file raises whatever its parts raise
            raise ConfigError(f"{path}: is no whole GGUF file: {plain_reason(error)}") from None
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._config = self._read_config(name or path.stem)

    @property
    def config(self) -> ModelConfig:
        return self._config

    def field(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Raises ConfigError where it is missing and has no default, or is of another kind."""
        if key not in self._fields:
            if default is None:
                raise ConfigError(f"{self.where}: {key}: is missing")
            return default
        value = self._fields[key].contents()
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind):
            raise ConfigError(f"{self.where}: {key}: should be of type {kind.__name__}, not {type(value).__name__}")
        return value

    def _count(self, key: str, default: int | None = None) -> int:
        count = self.field(key, int, default)
        if count < 1:
            raise ConfigError(f"{self.where}: {key}: should be at least 1, not {count}")
        return count

    def _read_config(self, name: str) -> ModelConfig:
        arch = self.field("general.architecture", str)
        if arch not in ARCHITECTURES:
            raise ConfigError(
                f"{self.where}: general.architecture: should be one of {', '.join(ARCHITECTURES)}, not {arch}"
            )
        hidden, heads = self._count(f"{arch}.embedding_length"), self._count(f"{arch}.attention.head_count")
        head_dim = self._count(f"{arch}.attention.key_length", hidden // heads)
        kv_heads = self._count(f"{arch}.attention.head_count_kv", heads)
        if heads % kv_heads:
            raise ConfigError(f"{self.where}: {arch}.attention.head_count_kv: should divide {heads}, not be {kv_heads}")
        if (turned := self._count(f"{arch}.rope.dimension_count", head_dim)) != head_dim:
            raise ConfigError(f"{self.where}: {arch}.rope.dimension_count: should be {head_dim}, not {turned}")
        experts = self.field(f"{arch}.expert_count", int, 0)
        tokens = self.field("tokenizer.ggml.tokens", list)
        ends = ("eos_token_id", "eot_token_id", "eom_token_id")
        config = ModelConfig(
            name=name,
            family="qwen2" if arch == "qwen2" else "mixtral" if experts else "llama",
            vocab_size=len(tokens),
            hidden_size=hidden,
            intermediate_size=self._count(f"{arch}.feed_forward_length"),
            layers=self._count(f"{arch}.block_count"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            max_positions=self._count(f"{arch}.context_length"),
            rope_theta=self.field(f"{arch}.rope.freq_base", float, 10_000.0),
            norm_eps=self.field(f"{arch}.attention.layer_norm_rms_epsilon", float),
            tied_embeddings="output.weight" not in self._tensors,
            qkv_bias=arch == "qwen2",
            experts=experts,
            experts_per_token=self.field(f"{arch}.expert_used_count", int, 0),
            eos_token_ids=tuple(
                dict.fromkeys(
                    self.field(f"tokenizer.ggml.{end}", int) for end in ends if f"tokenizer.ggml.{end}" in self._fields
                )
            ),
        )
        if "tokenizer.ggml.bos_token_id" in self._fields:
            config = replace(config, bos_token_id=self.field("tokenizer.ggml.bos_token_id", int))
        return replace(config, rope_scaling=self._scaling(config, arch))

    def _scaling(self, config: ModelConfig, arch: str) -> RopeScaling | None:
        """Linear scaling is a field; Llama 3's is a tensor of factors, whose parameters are found again here."""
        if "rope_freqs.weight" not in self._tensors:
            kind = self.field(f"{arch}.rope.scaling.type", str, "none")
            if kind not in {"none", "linear"}:
                raise ConfigError(f"{self.where}: {arch}.rope.scaling.type: should be none or linear, not {kind}")
            return RopeScaling("linear", self.field(f"{arch}.rope.scaling.factor", float)) if kind == "linear" else None
        factors = self._dequantized("rope_freqs.weight")
        scaling = RopeScaling("llama3", float(factors.max()))
        cpu = torch.device("cpu")
        expected = frequencies(config, cpu) / frequencies(replace(config, rope_scaling=scaling), cpu)
        if factors.shape != expected.shape or not torch.allclose(factors, expected, rtol=1e-3):
            raise ConfigError(f"{self.where}: rope_freqs.weight: is not Llama 3's scaling of rotary frequencies")
        return scaling

    def __contains__(self, name: str) -> bool:
        stored, _ = self._stored(name)
        return stored in self._tensors

    def tensor(self, name: str) -> torch.Tensor:
        """fp32, in the layout of Hugging Face."""
        stored, expert = self._stored(name)
        tensor = self._dequantized(stored, expert)
        for part, heads in (("attn_q", self._config.heads), ("attn_k", self._config.kv_heads)):
            # llama.cpp turns neighbours, Hugging Face halves: its converter reordered the rows.
            if f".{part}." in stored and self._config.family != "qwen2":
                rows = tensor.view(heads, self._config.head_dim // 2, 2, -1)
                tensor = rows.transpose(1, 2).reshape(tensor.shape)
        return tensor

    @property
    def quantized(self) -> bool:
        """Whether any matrix is stored in fewer bits than 16."""
        return any(tensor.tensor_type.name not in {"F32", "F16", "BF16"} for tensor in self._tensors.values())

    def _stored(self, name: str) -> tuple[str, int | None]:
        """A tensor's name in the file, and which of a stack of experts it is."""
        if name in TOP:
            return TOP[name], None
        if (layer := LAYER.fullmatch(name)) is None:
            return name, None
        if expert := EXPERT.fullmatch(layer[2]):
            return f"blk.{layer[1]}.{STACKS[expert[2]]}", int(expert[1])
        return f"blk.{layer[1]}.{PARTS.get(layer[2], layer[2])}", None

    def _dequantized(self, stored: str, expert: int | None = None) -> torch.Tensor:
        tensor = self._tensors[stored]
        data = tensor.data if expert is None else tensor.data[expert]
        try:
            values = dequantize(data, tensor.tensor_type)
        except NotImplementedError:
            raise ConfigError(f"{self.where}: tensor {stored}: {tensor.tensor_type.name} cannot be read") from None
        return torch.from_numpy(np.array(values, dtype=np.float32))
