"""Batches for attention, with what must not be read set to NaN, and the answer in fp64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from skyfog_inference.attention.base import Attention, Rows
from skyfog_inference.blocks import BLOCK_SIZE, blocks_for


@dataclass(frozen=True)
class Batch:
    query: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    rows: Rows

    @property
    def scale(self) -> float:
        return float(self.query.shape[-1]) ** -0.5

    def run(self, attention: Attention) -> torch.Tensor:
        out = torch.full_like(self.query, float("nan"), memory_format=torch.contiguous_format)
        attention(self.query, self.keys, self.values, self.rows, self.scale, out)
        return out


def drawn(
    lengths: Sequence[int],
    counts: Sequence[int],
    heads: int,
    kv_heads: int,
    head_dim: int,
    query_type: torch.dtype = torch.float32,
    cache_type: torch.dtype = torch.float32,
    seed: int = 0,
) -> Batch:
    """Sequence i has lengths[i] tokens, of which the last counts[i] ask. Blocks are shuffled among unused ones."""
    source = torch.Generator().manual_seed(seed)
    needed = [blocks_for(length) for length in lengths]
    blocks = sum(needed) + 3
    keys, values = (torch.randn(blocks, kv_heads, BLOCK_SIZE, head_dim, generator=source).to(cache_type) for _ in "kv")
    order = torch.randperm(blocks, generator=source).to(torch.int32)
    tables = torch.zeros(len(lengths), max(needed), dtype=torch.int32)
    used = 0
    for row, (length, count) in enumerate(zip(lengths, needed, strict=True)):
        tables[row, :count] = order[used : used + count]
        used += count
        for cache in (keys, values):
            cache[tables[row, count - 1], :, (length - 1) % BLOCK_SIZE + 1 :] = float("nan")
    for cache in (keys, values):
        cache[order[used:].long()] = float("nan")
    starts = torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()], dtype=torch.int32)
    # Among keys and values, as the runner's queries are.
    qkv = torch.randn(sum(counts), heads + 2 * kv_heads, head_dim, generator=source).to(query_type)
    rows = Rows(starts, torch.tensor(lengths, dtype=torch.int32), tables)
    return Batch(qkv[:, :heads], keys, values, rows)


def exact(batch: Batch) -> torch.Tensor:
    """fp64 [tokens, heads, head_dim]."""
    out = torch.empty(batch.query.shape, dtype=torch.float64)
    for index, length in enumerate(batch.rows.lengths.tolist()):
        first, end = (int(batch.rows.starts[index + more]) for more in (0, 1))
        table = batch.rows.tables[index, : blocks_for(length)].long()
        group = batch.query.shape[1] // batch.keys.shape[1]
        key, value = (
            cache[table].transpose(0, 1).flatten(1, 2)[:, :length].double().repeat_interleave(group, 0)
            for cache in (batch.keys, batch.values)
        )
        scores = torch.einsum("nhd,htd->hnt", batch.query[first:end].double(), key) * batch.scale
        later = torch.arange(length) > torch.arange(length - (end - first), length)[:, None]
        weights = scores.masked_fill(later, float("-inf")).softmax(-1)
        out[first:end] = torch.einsum("hnt,htd->nhd", weights, value)
    return out


def bound(batch: Batch) -> float:
    """What a result may be away from the exact one: of values up to about 5."""
    return 2e-2 if batch.query.dtype == torch.bfloat16 else 3e-6
