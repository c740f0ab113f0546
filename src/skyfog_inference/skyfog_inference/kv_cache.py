"""Keys and values of one tier, in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from skyfog_inference.blocks import BLOCK_SIZE
from skyfog_inference.models.config import ModelConfig


def block_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """Of keys and values of one block, all layers."""
    return 2 * config.layers * config.kv_heads * BLOCK_SIZE * config.head_dim * int(dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Slots:
    """Where the tokens of a batch lie in a cache; made once a step, used by every layer."""

    blocks: torch.Tensor  # int64 [tokens]
    places: torch.Tensor  # int64 [tokens], in the block


class KVCache:
    """`keys` and `values`: [layers, blocks, kv_heads, BLOCK_SIZE, head_dim].

    On a host that stands beside a GPU the memory is pinned, so that copies run beside computing.
    """

    def __init__(
        self, config: ModelConfig, blocks: int, dtype: torch.dtype, device: torch.device, pinned: bool = False
    ) -> None:
        shape = (config.layers, blocks, config.kv_heads, BLOCK_SIZE, config.head_dim)
        self.blocks = blocks
        self.keys = torch.zeros(shape, dtype=dtype, device=device, pin_memory=pinned)
        self.values = torch.zeros(shape, dtype=dtype, device=device, pin_memory=pinned)

    def write(self, layer: int, slots: Slots, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store keys and values [tokens, kv_heads, head_dim] of one layer."""
        self.keys[layer][slots.blocks, :, slots.places] = key.to(self.keys.dtype)
        self.values[layer][slots.blocks, :, slots.places] = value.to(self.values.dtype)

    def copy_from(self, source: KVCache, source_blocks: Sequence[int], target_blocks: Sequence[int]) -> None:
        """Take over blocks of another tier, all layers."""
        theirs = torch.tensor(source_blocks, device=source.keys.device)
        ours = torch.tensor(target_blocks, device=self.keys.device)
        for mine, other in ((self.keys, source.keys), (self.values, source.values)):
            for layer in range(len(mine)):
                mine[layer][ours] = other[layer][theirs].to(mine)
