"""GGUF files of random models, written as llama.cpp's converter does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGUFWriter, TokenType

from skyfog_inference.models.config import ModelConfig
from skyfog_inference.models.gguf import LAYER, PARTS, STACKS, TOP
from skyfog_inference.weights.source import TensorSource, tensor_names
from support.vocabularies import END, MERGES, bytes_backend


def write_gguf(
    path: Path,
    config: ModelConfig,
    source: TensorSource,
    pre: str,
    factors: torch.Tensor | None = None,
    **fields: Any,
) -> None:
    """fp32. `factors` are of Llama 3's scaling; `fields` are added to the architecture's, or take their place."""
    arch = "qwen2" if config.family == "qwen2" else "llama"
    writer = GGUFWriter(path, arch)
    values: dict[str, Any] = {
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.layers,
        "context_length": config.max_positions,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.freq_base": config.rope_theta,
        **({"expert_count": config.experts, "expert_used_count": config.experts_per_token} if config.experts else {}),
        **fields,
    }
    for key, value in values.items():
        add = {float: writer.add_float32, int: writer.add_uint32, str: writer.add_string}[type(value)]
        add(f"{arch}.{key}", value)
    _write_vocabulary(writer, config, pre)
    for name, tensor in _stored(config, source).items():
        writer.add_tensor(name, tensor)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_vocabulary(writer: GGUFWriter, config: ModelConfig, pre: str) -> None:
    backend = bytes_backend()
    by_id = {at: piece for piece, at in backend.get_vocab(with_added_tokens=True).items()}
    pieces = [by_id.get(at, f"unused{at}") for at in range(config.vocab_size)]
    special = [TokenType.CONTROL if piece.startswith("<|") else TokenType.NORMAL for piece in pieces]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(pieces)
    writer.add_token_types(special)
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(pieces.index(END))
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ eos_token }}")


def _stored(config: ModelConfig, source: TensorSource) -> dict[str, npt.NDArray[np.float32]]:
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for name in tensor_names(config):
        layer = LAYER.fullmatch(name)
        if layer is None or "experts" not in name:
            stored = TOP[name] if layer is None else f"blk.{layer[1]}.{PARTS[layer[2]]}"
            tensors[stored] = _reordered(config, stored, source.tensor(name)).numpy()
    for at in range(config.layers if config.experts else 0):
        for part, stack in STACKS.items():
            names = [
                f"model.layers.{at}.block_sparse_moe.experts.{expert}.{part}.weight" for expert in range(config.experts)
            ]
            tensors[f"blk.{at}.{stack}"] = torch.stack([source.tensor(name) for name in names]).numpy()
    return tensors


def _reordered(config: ModelConfig, stored: str, tensor: torch.Tensor) -> torch.Tensor:
    """llama.cpp's `permute` of queries and keys."""
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}.get(stored.split(".")[-2])
    if heads is None or config.family == "qwen2":
        return tensor
    return tensor.view(heads, 2, config.head_dim // 2, -1).swapaxes(1, 2).reshape(tensor.shape)
