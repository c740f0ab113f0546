"""Attention on a CPU is near the exact one for every shape, and reads nothing that is not there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfog_inference.attention.base import Attention
from skyfog_inference.attention.build import usable_isas
from skyfog_inference.attention.cpu import CpuAttention
from skyfog_inference.attention.torch import TorchAttention
from support.attention import bound, drawn, exact

BACK_ENDS = ["torch", *usable_isas()]
LENGTHS = st.one_of(st.sampled_from([1, 15, 16, 17, 127, 128, 129, 511, 512, 513, 1040]), st.integers(1, 700))
TYPES = st.sampled_from([torch.float32, torch.bfloat16])


def back_end(name: str) -> Attention:
    return TorchAttention() if name == "torch" else CpuAttention(threads=1, isa=name)


@pytest.mark.parametrize("name", BACK_ENDS)
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=4),
    asking=st.lists(st.integers(1, 19), min_size=4, max_size=4),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 9),
    head_dim=st.sampled_from([16, 32, 48, 64, 80, 96, 112, 128, 256]),
    query_type=TYPES,
    cache_type=TYPES,
    seed=st.integers(0, 1_000),
)
@settings(max_examples=40)
def test_result_is_near_the_exact_one(
    name: str,
    lengths: list[int],
    asking: list[int],
    kv_heads: int,
    group: int,
    head_dim: int,
    query_type: torch.dtype,
    cache_type: torch.dtype,
    seed: int,
) -> None:
    counts = [min(length, count) for length, count in zip(lengths, asking, strict=False)]
    batch = drawn(lengths, counts, group * kv_heads, kv_heads, head_dim, query_type, cache_type, seed)
    found = batch.run(back_end(name))
    assert (found.double() - exact(batch)).abs().max() < bound(batch)
