"""Steps cut into micro-batches: nothing is lost, nothing is done twice, sizes are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyfog_inference.blocks import blocks_for
from skyfog_inference.request import Place, Sequence
from skyfog_inference.scheduler.base import Chunk
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.scheduler.micro_batches import MicroBatches, balanced, packed

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=20)


def _sequence(name: str, length: int, new: int = 5) -> Sequence:
    return Sequence(name, list(range(length)), length, new, 0)


@given(LENGTHS, st.integers(1, 50))
def test_prompts_are_cut_by_tokens_and_only_the_last_part_draws(lengths: list[int], size: int) -> None:
    chunks = [Chunk(_sequence(f"s{n}", length), 0, length, Place.DEVICE, True) for n, length in enumerate(lengths)]
    parts = list(packed(chunks, size))
    assert [sum(chunk.count for chunk in part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert 0 < sum(chunk.count for chunk in parts[-1]) <= size
    flat = [chunk for part in parts for chunk in part]
    for whole in chunks:
        mine = [chunk for chunk in flat if chunk.sequence is whole.sequence]
        assert [chunk.start for chunk in mine] == [sum(one.count for one in mine[:n]) for n in range(len(mine))]
        assert sum(chunk.count for chunk in mine) == whole.count
        assert [chunk.draws for chunk in mine] == [False] * (len(mine) - 1) + [True]


@given(LENGTHS, st.integers(1, 8))
def test_decodes_are_spread_over_the_fewest_micro_batches(lengths: list[int], size: int) -> None:
    chunks = [Chunk(_sequence(f"s{n}", length), length - 1, 1, Place.DEVICE, True) for n, length in enumerate(lengths)]
    parts = list(balanced(chunks, size))
    assert len(parts) == -(-len(chunks) // size)
    assert max(map(len, parts)) - min(map(len, parts)) <= size
    assert max(map(len, parts)) <= size
    assert sorted(chunk.sequence.id for part in parts for chunk in part) == sorted(
        chunk.sequence.id for chunk in chunks
    )


@given(LENGTHS, st.integers(1, 6), st.integers(1, 40), st.integers(70, 200))
def test_every_request_ends_with_all_its_tokens(lengths: list[int], size: int, prefill: int, tokens: int) -> None:
    blocks = blocks_for(66) * 3
    scheduler = MicroBatches(FcfsScheduler(blocks, max_batched_tokens=tokens), size, prefill)
    sequences = [_sequence(f"s{n}", length) for n, length in enumerate(lengths)]
    for sequence in sequences:
        scheduler.add(sequence, 0)
    for now_ns in range(1_000):
        step = scheduler.schedule(now_ns)
        if step is None:
            break
        assert all(batch.tokens <= prefill for batch in step.batches if batch.prefills)
        assert all(batch.tokens <= size for batch in step.batches if batch.device_decodes)
        drawn = {chunk.sequence.id: 7 for chunk in step.chunks if chunk.draws}
        ended = {chunk.sequence.id for chunk in step.chunks if chunk.draws and chunk.sequence.output_len == 4}
        scheduler.on_step(step, drawn, ended, 0, now_ns)
        scheduler.check()
    assert not scheduler.has_work()
    assert all(sequence.output_len == 5 for sequence in sequences)
    assert scheduler.state().device_blocks_used == 0
