"""What every attention back end computes: queries against keys and values in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class Rows:
    """Which queries belong to which sequence, and where its keys and values are.

    Sequence i has the queries `starts[i]` to `starts[i + 1] - 1` of the flat batch, at the last positions of its
    context of `lengths[i]` tokens, which include them: query j sees the positions up to its own (causal).
    """

    starts: torch.Tensor  # int32 [sequences + 1]
    lengths: torch.Tensor  # int32 [sequences]
    tables: torch.Tensor  # int32 [sequences, most blocks]; unused entries are 0


class Attention(Protocol):
    """Attention of one layer over one tier's cache."""

    def __call__(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: Rows, scale: float, out: torch.Tensor
    ) -> None:
        """Write to `out`. Accumulates in fp32 whatever the cache holds.

        query, out: [tokens, heads, head_dim]; keys, values: [blocks, kv_heads, BLOCK_SIZE, head_dim].
        """
        ...
