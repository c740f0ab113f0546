from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from skyfog_inference.attention.base import Rows
from skyfog_inference.attention.torch import TorchAttention
from skyfog_inference.blocks import BLOCK_SIZE, blocks_for
from skyfog_inference.kv_cache import KVCache
from skyfog_inference.layers import forward
from skyfog_inference.layers.linear import linear, pack
from skyfog_inference.layers.rotary import angles, frequencies, rotate
from skyfog_inference.layers.weights import FeedForward
from skyfog_inference.models.config import ModelConfig, RopeScaling
from skyfog_inference.request import Place, Sequence
from skyfog_inference.runner.batch import flatten
from skyfog_inference.scheduler.base import Chunk, SubBatch

CPU = torch.device("cpu")
CONFIG = ModelConfig(
    name="tiny",
    family="mixtral",
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    max_positions=64,
    rope_theta=10_000.0,
    norm_eps=1e-5,
    tied_embeddings=False,
    experts=5,
    experts_per_token=2,
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def sequence(name: str, tokens: list[int], blocks: list[int], computed: int = 0) -> Sequence:
    made = Sequence(name, tokens, len(tokens), 8, 0, computed=computed, place=Place.DEVICE)
    made.blocks = blocks
    return made


def test_queries_see_their_own_context_and_nothing_else() -> None:
    """Two sequences in scattered blocks whose unused places hold NaN: a decode, and a prompt's chunk."""
    lengths, counts = [33, 20], [1, 7]
    tables = torch.tensor([[5, 1, 3], [0, 4, 0]], dtype=torch.int32)
    keys, values = (torch.full((6, 2, BLOCK_SIZE, 8), math.nan) for _ in range(2))
    contexts = [torch.randn(2, length, 2, 8, generator=generator()) for length in lengths]
    for index, (length, context) in enumerate(zip(lengths, contexts, strict=True)):
        for position in range(length):
            block, place = int(tables[index, position // BLOCK_SIZE]), position % BLOCK_SIZE
            keys[block, :, place], values[block, :, place] = context[:, position]
    query = torch.randn(sum(counts), 4, 8, generator=generator())
    rows = Rows(torch.tensor([0, 1, 8], dtype=torch.int32), torch.tensor(lengths, dtype=torch.int32), tables)
    out = torch.empty_like(query)
    TorchAttention()(query, keys, values, rows, 0.3, out)
    at = 0
    for length, count, (key, value) in zip(lengths, counts, contexts, strict=True):
        for seen in range(length - count + 1, length + 1):
            for head in range(4):
                share = torch.softmax(key[:seen, head // 2].double() @ query[at, head].double() * 0.3, 0)
                exact = share @ value[:seen, head // 2].double()
                torch.testing.assert_close(out[at, head].double(), exact, rtol=1e-5, atol=1e-6)
            at += 1


def test_many_queries_are_attended_to_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, values = (torch.randn(3, 2, BLOCK_SIZE, 8, generator=generator()) for _ in range(2))
    query = torch.randn(30, 4, 8, generator=generator())
    starts, lengths = torch.tensor([0, 30], dtype=torch.int32), torch.tensor([41], dtype=torch.int32)
    rows = Rows(starts, lengths, torch.tensor([[2, 0, 1]], dtype=torch.int32))
    whole, parts = torch.empty_like(query), torch.empty_like(query)
    TorchAttention()(query, keys, values, rows, 0.3, whole)
    monkeypatch.setattr("skyfog_inference.attention.torch.QUERIES_AT_ONCE", 7)
    TorchAttention()(query, keys, values, rows, 0.3, parts)
    torch.testing.assert_close(parts, whole)


def test_rotation_turns_pairs_by_position() -> None:
    heads = torch.randn(3, 2, 8, generator=generator())
    positions = torch.tensor([0, 1, 50])
    turned = rotate(heads, angles(frequencies(CONFIG, CPU), positions, torch.float32))
    for token, position in enumerate(positions.tolist()):
        for pair in range(4):
            turn = position * 10_000 ** (-2 * pair / 8)
            a, b = heads[token, :, pair], heads[token, :, pair + 4]
            torch.testing.assert_close(turned[token, :, pair], a * math.cos(turn) - b * math.sin(turn))
            torch.testing.assert_close(turned[token, :, pair + 4], b * math.cos(turn) + a * math.sin(turn))


def test_llama3_stretches_long_waves_only() -> None:
    config = replace(CONFIG, head_dim=64)
    plain = frequencies(config, CPU)
    scaled = frequencies(replace(config, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 1024)), CPU)
    wavelength = 2 * math.pi / plain
    assert torch.equal(scaled[wavelength < 256], plain[wavelength < 256])
    assert torch.equal(scaled[wavelength > 1024], plain[wavelength > 1024] / 8)
    between = (wavelength > 256) & (wavelength < 1024)
    assert between.any()
    assert ((scaled < plain) & (scaled > plain / 8))[between].all()


def test_experts_sum_by_their_shares() -> None:
    router = torch.randn(5, 16, generator=generator())
    weights = [
        FeedForward((1 + at) * torch.randn(48, 16, generator=generator()), torch.randn(16, 24, generator=generator()))
        for at in range(5)
    ]
    normed = torch.randn(9, 16, generator=generator())
    asked: list[int] = []

    def weights_of(expert: int) -> FeedForward:
        asked.append(expert)
        return weights[expert]

    ours = forward.experts(forward.route(CONFIG, router, normed), weights_of, normed)
    hit = set()
    for token in range(9):
        best = torch.softmax(router @ normed[token], 0).topk(2)
        share = best.values / best.values.sum()
        hit.update(best.indices.tolist())
        one = normed[token : token + 1]
        expected = sum(
            part * forward.feed_forward(weights[at], one)[0]
            for part, at in zip(share, best.indices.tolist(), strict=True)
        )
        torch.testing.assert_close(ours[token], expected, rtol=1e-5, atol=1e-3)
    assert asked == sorted(hit)  # each once, in rising order


def test_a_flat_batch_holds_chunks_of_both_places() -> None:
    prefill = Chunk(sequence("a", list(range(40)), [7, 2, 9], computed=14), 14, 20, Place.DEVICE, draws=False)
    moved = Chunk(sequence("b", list(range(100, 103)), [3]), 0, 3, Place.HOST, draws=True)
    decode = Chunk(sequence("c", [200] * 17, [4, 5], computed=16), 16, 1, Place.DEVICE, draws=True)
    flat = flatten(SubBatch((prefill, moved), (decode,)), {Place.DEVICE: CPU, Place.HOST: CPU})
    assert flat.tokens.tolist() == [*range(14, 34), 100, 101, 102, 200]
    assert flat.positions.tolist() == [*range(14, 34), 0, 1, 2, 16]
    assert flat.sequences == ("b", "c")
    assert flat.drawing is not None
    assert flat.drawing.tolist() == [22, 23]
    by_place = {part.place: part for part in flat.parts}
    device, host = by_place[Place.DEVICE], by_place[Place.HOST]
    assert torch.arange(24)[device.tokens].tolist() == [*range(20), 23]
    assert torch.arange(24)[host.tokens].tolist() == [20, 21, 22]
    assert device.slots.blocks.tolist() == [7] * 2 + [2] * 16 + [9] * 2 + [5]
    assert device.slots.places.tolist() == [14, 15, *range(16), 0, 1, 0]
    assert device.rows.starts.tolist() == [0, 20, 21]
    assert device.rows.lengths.tolist() == [34, 17]
    assert device.rows.tables.tolist() == [[7, 2, 9], [4, 5, 0]]


def test_blocks_move_between_caches_of_two_types() -> None:
    source, target = KVCache(CONFIG, 4, torch.float32, CPU), KVCache(CONFIG, 3, torch.bfloat16, CPU)
    source.keys.normal_(generator=generator())
    source.values.normal_(generator=generator())
    target.copy_from(source, [3, 0], [1, 2])
    assert torch.equal(target.keys[:, [1, 2]], source.keys[:, [3, 0]].bfloat16())
    assert torch.equal(target.values[:, [1, 2]], source.values[:, [3, 0]].bfloat16())
    assert not target.keys[:, 0].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_rows_give_no_rows(dtype: torch.dtype) -> None:
    assert linear(torch.zeros(0, 16, dtype=dtype), pack(torch.zeros(32, 16, dtype=dtype))).shape == (0, 32)


def test_blocks_are_counted_to_the_last_token() -> None:
    assert [blocks_for(tokens) for tokens in (0, 1, 16, 17)] == [0, 1, 1, 2]
