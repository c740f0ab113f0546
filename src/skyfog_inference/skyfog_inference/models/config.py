"""What the forward pass needs to know of a model: sizes, rotary embedding, experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skyfog_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3's scaling of rotary frequencies (`rope_type: llama3`) or the linear one."""

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A Llama-family or Mixtral model."""

    name: str
    family: Literal["llama", "qwen2", "mixtral"]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rope_theta: float
    norm_eps: float
    tied_embeddings: bool
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    experts: int = 0  # 0: dense
    experts_per_token: int = 0
    sliding_window: int | None = None
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()


def context_within(asked: int, longest: int) -> int:
    """Tokens of the longest sequence that is served; `asked` 0: what the model has. Raises ConfigError above that."""
    if asked > longest:
        raise ConfigError(f"max_context: should be at most the model's {longest}, not {asked}")
    return asked or longest
