"""Attention over blocks with torch alone: for machines without a compiler, and what the kernel is tested against."""

from __future__ import annotations

import torch

from skyfog_inference.attention.base import Rows
from skyfog_inference.blocks import blocks_for

QUERIES_AT_ONCE = 256  # bounds the scores in memory to heads x 256 x context


class TorchAttention:
    """Sequence by sequence: gather the context's blocks, multiply, softmax, multiply, all in fp32."""

    def __call__(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: Rows, scale: float, out: torch.Tensor
    ) -> None:
        starts, lengths = rows.starts.tolist(), rows.lengths.tolist()
        for index, length in enumerate(lengths):
            table = rows.tables[index, : blocks_for(length)]
            key, value = _gathered(keys, table), _gathered(values, table)
            first, end = starts[index], starts[index + 1]
            position = length - (end - first)  # of the first query
            for begin in range(first, end, QUERIES_AT_ONCE):
                part = slice(begin, min(begin + QUERIES_AT_ONCE, end))
                seen = position + part.stop - first
                out[part] = _attend(query[part], key[:, :seen], value[:, :seen], scale).to(out.dtype)


def _gathered(cache: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """[blocks, kv_heads, BLOCK_SIZE, head_dim] -> fp32 [kv_heads, positions, head_dim], to the last block's end."""
    blocks = cache[table].transpose(0, 1)
    return blocks.reshape(blocks.shape[0], -1, blocks.shape[-1]).to(torch.float32)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """The last queries of a context: [queries, heads, d] against [kv_heads, seen, d] -> [queries, heads, d]."""
    queries, heads, head_dim = query.shape
    kv_heads, seen, _ = key.shape
    # All heads of a group, and all queries, are rows of one product.
    grouped = query.to(torch.float32).view(queries, kv_heads, -1, head_dim).permute(1, 2, 0, 3)
    scores = torch.matmul(grouped.reshape(kv_heads, -1, head_dim) * scale, key.transpose(1, 2))
    if queries > 1:
        scores = scores.view(kv_heads, -1, queries, seen)
        future = torch.ones(queries, seen, dtype=torch.bool, device=query.device).triu(seen - queries + 1)
        scores = scores.masked_fill(future, float("-inf")).view(kv_heads, -1, seen)
    result = torch.matmul(torch.softmax(scores, dim=-1), value)
    return result.view(kv_heads, heads // kv_heads, queries, head_dim).permute(2, 0, 1, 3).reshape(query.shape)
