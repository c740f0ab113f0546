"""Rotary position embedding (RoFormer, arXiv 2104.09864) in the half-split form of Hugging Face."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from skyfog_inference.models.config import ModelConfig, RopeScaling


@dataclass(frozen=True, slots=True)
class Angles:
    """Of every token of a flat batch; the same for all layers of a step."""

    cos: torch.Tensor  # [tokens, 1, head_dim]
    sin: torch.Tensor  # [tokens, 1, head_dim], negative in the first half


def frequencies(config: ModelConfig, device: torch.device) -> torch.Tensor:
    """fp32 [head_dim / 2]: radians per position, after scaling."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.int64).to(torch.float32)
    plain = 1.0 / (config.rope_theta ** (half / config.head_dim))
    scaling = config.rope_scaling
    if scaling is not None:
        plain = plain / scaling.factor if scaling.kind == "linear" else _llama3(plain, scaling)
    return plain.to(device)


def _llama3(plain: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Long wavelengths are stretched by `factor`, short ones are left, those between go from one to the other.

    The Llama 3 Herd of Models (arXiv 2407.21783), section 3.4.2, as Llama 3.1 applies it.
    """
    low = scaling.original_max_positions / scaling.low_freq_factor
    high = scaling.original_max_positions / scaling.high_freq_factor
    wavelength = 2 * math.pi / plain
    smooth = (scaling.original_max_positions / wavelength - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    between = (1 - smooth) * plain / scaling.factor + smooth * plain
    scaled = torch.where(wavelength > low, plain / scaling.factor, plain)
    return torch.where((wavelength >= high) & (wavelength <= low), between, scaled)


def angles(frequency: torch.Tensor, positions: torch.Tensor, dtype: torch.dtype) -> Angles:
    """For positions int64 [tokens]."""
    turn = (positions.to(torch.float32)[:, None] * frequency)[:, None, :]
    cos, sin = turn.cos().to(dtype), turn.sin().to(dtype)
    return Angles(torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1))


def rotate(heads: torch.Tensor, turned: Angles) -> torch.Tensor:
    """Turn [tokens, heads, head_dim] by its positions: element i goes with element i + head_dim / 2."""
    return heads * turned.cos + heads.roll(heads.shape[-1] // 2, dims=-1) * turned.sin
