"""A folder as Hugging Face lays it out: `config.json` becomes a ModelConfig. Errors name file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from skyfog_core.config.base import Strict, parse
from skyfog_core.errors import ConfigError
from skyfog_inference.models.config import ModelConfig, RopeScaling

FAMILIES: dict[str, Literal["llama", "qwen2", "mixtral"]] = {
    "LlamaForCausalLM": "llama",
    "MixtralForCausalLM": "mixtral",
    "Qwen2ForCausalLM": "qwen2",
}
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Lenient(Strict):
    """Part of a file that others write: keys which do not concern the forward pass are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class HFRope(Lenient):
    """`rope_scaling`, or `rope_parameters` of newer files."""

    rope_theta: Positive | None = None
    rope_type: str | None = None
    type: str | None = None  # what older files call rope_type
    factor: Positive = 1.0
    low_freq_factor: Positive = 1.0
    high_freq_factor: Positive = 4.0
    original_max_position_embeddings: Count = 8_192


class HFConfig(Lenient):
    """`config.json`, as far as it matters here."""

    architectures: Annotated[list[str], Field(min_length=1)]
    vocab_size: Count
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    max_position_embeddings: Count
    rms_norm_eps: Positive
    hidden_act: Literal["silu"] = "silu"
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    rope_theta: Positive | None = None
    rope_scaling: HFRope | None = None
    rope_parameters: HFRope | None = None
    tie_word_embeddings: bool | None = None
    num_local_experts: Count | None = None
    num_experts_per_tok: Count | None = None
    sliding_window: Count | None = None
    use_sliding_window: bool | None = None
    quantization_config: None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


def read_json(path: Path) -> dict[str, Any]:
    """An object out of a JSON file. Raises ConfigError."""
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: should hold an object, not {type(values).__name__}")
    return values


def read_config(folder: Path) -> ModelConfig:
    """What `config.json` (and `generation_config.json`, if there) says. Raises ConfigError."""
    path = folder / "config.json"
    config = parse(HFConfig, read_json(path), str(path))
    generation = folder / "generation_config.json"
    ends = _ids(read_json(generation).get("eos_token_id")) if generation.exists() else ()
    return model_config(config, str(path), folder.name, ends)


def model_config(config: HFConfig, source: str, name: str, more_ends: tuple[int, ...] = ()) -> ModelConfig:
    """Check that the parts fit together. Raises ConfigError that names `source`."""
    architecture = config.architectures[0]
    family = FAMILIES.get(architecture)
    if family is None:
        raise ConfigError(f"{source}: architectures: {architecture} is not one of {', '.join(sorted(FAMILIES))}")
    kv_heads = config.num_key_value_heads or config.num_attention_heads
    if config.num_attention_heads % kv_heads:
        raise ConfigError(
            f"{source}: num_key_value_heads: should divide num_attention_heads, {config.num_attention_heads}, "
            f"which {kv_heads} does not"
        )
    if config.head_dim is None and config.hidden_size % config.num_attention_heads:
        raise ConfigError(
            f"{source}: num_attention_heads: should divide hidden_size, {config.hidden_size}, where there is no "
            f"head_dim; {config.num_attention_heads} does not"
        )
    head_dim = config.head_dim or config.hidden_size // config.num_attention_heads
    if head_dim % 2:
        raise ConfigError(f"{source}: head_dim: should be even for rotary embedding, not {head_dim}")
    experts, per_token = _experts(config, family, source)
    theta, scaling = _rope(config, source)
    return ModelConfig(
        name=name,
        family=family,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_positions=_window(config, family) or config.max_position_embeddings,
        rope_theta=theta,
        norm_eps=config.rms_norm_eps,
        tied_embeddings=bool(config.tie_word_embeddings),
        rope_scaling=scaling,
        qkv_bias=family == "qwen2",
        experts=experts,
        experts_per_token=per_token,
        sliding_window=_window(config, family),
        bos_token_id=config.bos_token_id,
        eos_token_ids=tuple(dict.fromkeys((*_ids(config.eos_token_id), *more_ends))),
    )


def _window(config: HFConfig, family: str) -> int | None:
    """The attention window, where it is shorter than the context.

    Attention here always sees the whole context. Up to the window that is the same, so that the window is where the
    context ends.
    """
    used = config.use_sliding_window is True if family == "qwen2" else family == "mixtral"
    window = config.sliding_window if used else None
    return window if window is not None and window < config.max_position_embeddings else None


def _experts(config: HFConfig, family: str, source: str) -> tuple[int, int]:
    if family != "mixtral":
        return 0, 0
    experts, per_token = config.num_local_experts, config.num_experts_per_tok
    if experts is None or per_token is None:
        raise ConfigError(f"{source}: num_local_experts and num_experts_per_tok: are missing")
    if per_token > experts:
        raise ConfigError(
            f"{source}: num_experts_per_tok: should be at most num_local_experts, {experts}, not {per_token}"
        )
    return experts, per_token


def _rope(config: HFConfig, source: str) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary embedding."""
    rope = config.rope_parameters or config.rope_scaling or HFRope()
    theta = rope.rope_theta or config.rope_theta or 10_000.0
    kind = rope.rope_type or rope.type or "default"
    if kind == "default":
        return theta, None
    if kind not in {"linear", "llama3"}:
        raise ConfigError(f"{source}: rope_type: should be default, linear or llama3, not {kind!r}")
    return theta, RopeScaling(
        kind="llama3" if kind == "llama3" else "linear",
        factor=rope.factor,
        low_freq_factor=rope.low_freq_factor,
        high_freq_factor=rope.high_freq_factor,
        original_max_positions=rope.original_max_position_embeddings,
    )


def rope_values(config: ModelConfig) -> dict[str, Any]:
    """`rope_parameters` of a config.json."""
    scaling = config.rope_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": config.rope_theta}
    return {
        "rope_type": scaling.kind,
        "rope_theta": config.rope_theta,
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_positions,
    }


def _ids(value: object) -> tuple[int, ...]:
    """One token id, several, or none."""
    if isinstance(value, int):
        return (value,)
    return tuple(value) if isinstance(value, list) else ()
