"""From tensors by their Hugging Face names to the weights of one layer, fused as the forward pass takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from skyfog_core.errors import ConfigError
from skyfog_inference.layers.weights import AttentionWeights, FeedForward, TopWeights
from skyfog_inference.models.config import ModelConfig

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class TensorSource(Protocol):
    """Where tensors are read from, one at a time: safetensors, GGUF, or a dictionary of them."""

    where: str  # for errors

    def __contains__(self, name: str) -> bool: ...

    def tensor(self, name: str) -> torch.Tensor:
        """Raises KeyError for one that is not there, ConfigError for one that cannot be read."""
        ...


class TensorDict:
    """Tensors that are in memory."""

    def __init__(self, tensors: dict[str, torch.Tensor], where: str = "memory") -> None:
        self._tensors = tensors
        self.where = where

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]


def tensor_names(config: ModelConfig) -> Iterator[str]:
    """Of all tensors of a model."""
    yield from ("model.embed_tokens.weight", "model.norm.weight")
    if not config.tied_embeddings:
        yield "lm_head.weight"
    heads = [f"self_attn.{part}_proj.weight" for part in "qkvo"]
    biases = [f"self_attn.{part}_proj.bias" for part in "qkv" if config.qkv_bias]
    inner = [f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
    if config.experts:
        matrices = [f"{expert}.{part}" for expert in range(config.experts) for part in ("w1", "w2", "w3")]
        inner = ["block_sparse_moe.gate.weight", *(f"block_sparse_moe.experts.{name}.weight" for name in matrices)]
    norms = ["input_layernorm.weight", "post_attention_layernorm.weight"]
    for layer in range(config.layers):
        yield from (f"model.layers.{layer}.{name}" for name in (*norms, *heads, *biases, *inner))


def fetch(source: TensorSource, name: str, *shape: int) -> torch.Tensor:
    """One tensor of this shape. Raises ConfigError where it is missing or shaped otherwise."""
    if name not in source:
        raise ConfigError(f"{source.where}: tensor {name} is missing")
    tensor = source.tensor(name)
    if tuple(tensor.shape) != shape:
        found = list(tensor.shape)
        raise ConfigError(f"{source.where}: tensor {name}: should be {list(shape)} by the model's config, not {found}")
    if tensor.dtype not in FLOATS:
        raise ConfigError(f"{source.where}: tensor {name}: should hold floats of 16 or 32 bits, not {tensor.dtype}")
    return tensor


def top_weights(config: ModelConfig, source: TensorSource) -> TopWeights:
    """What stands above and below the layers. Raises ConfigError."""
    embedding = fetch(source, "model.embed_tokens.weight", config.vocab_size, config.hidden_size)
    norm = fetch(source, "model.norm.weight", config.hidden_size)
    if config.tied_embeddings:
        return TopWeights(embedding, norm, embedding)
    return TopWeights(embedding, norm, fetch(source, "lm_head.weight", config.vocab_size, config.hidden_size))


def attention_weights(config: ModelConfig, source: TensorSource, layer: int) -> AttentionWeights:
    """Everything of a layer before its feed-forward part. Raises ConfigError."""
    name, hidden = f"model.layers.{layer}", config.hidden_size
    heads = {"q": config.heads, "k": config.kv_heads, "v": config.kv_heads}
    rows = {part: count * config.head_dim for part, count in heads.items()}
    parts = [fetch(source, f"{name}.self_attn.{part}_proj.weight", rows[part], hidden) for part in rows]
    bias = None
    if config.qkv_bias:
        bias = torch.cat([fetch(source, f"{name}.self_attn.{part}_proj.bias", rows[part]) for part in rows])
    router = None
    if config.experts:
        router = fetch(source, f"{name}.block_sparse_moe.gate.weight", config.experts, hidden)
    return AttentionWeights(
        input_norm=fetch(source, f"{name}.input_layernorm.weight", hidden),
        qkv=torch.cat(parts),
        qkv_bias=bias,
        output=fetch(source, f"{name}.self_attn.o_proj.weight", hidden, rows["q"]),
        post_norm=fetch(source, f"{name}.post_attention_layernorm.weight", hidden),
        router=router,
    )


def feed_forward_weights(config: ModelConfig, source: TensorSource, layer: int, expert: int = 0) -> FeedForward:
    """A dense layer's feed-forward part, or one expert's. Raises ConfigError."""
    name, hidden, inner = f"model.layers.{layer}", config.hidden_size, config.intermediate_size
    gate, up, down = f"{name}.mlp.gate_proj", f"{name}.mlp.up_proj", f"{name}.mlp.down_proj"
    if config.experts:
        gate, down, up = (f"{name}.block_sparse_moe.experts.{expert}.{part}" for part in ("w1", "w2", "w3"))
    return FeedForward(
        gate_up=torch.cat(
            [fetch(source, f"{gate}.weight", inner, hidden), fetch(source, f"{up}.weight", inner, hidden)]
        ),
        down=fetch(source, f"{down}.weight", hidden, inner),
    )
