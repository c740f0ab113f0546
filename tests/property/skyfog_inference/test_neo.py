"""NEO's scheduler on a machine that is a cost model: whatever comes, the books balance and every sequence ends."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import example, given, settings
from hypothesis import strategies as st

from skyfog_core.errors import InvalidRequest
from skyfog_core.units import MS
from skyfog_inference.blocks import blocks_for
from skyfog_inference.cost.flat import FlatCost
from skyfog_inference.cost.step import step_ms
from skyfog_inference.request import Place, Sequence
from skyfog_inference.scheduler.base import Step
from skyfog_inference.scheduler.neo import NeoScheduler
from skyfog_inference.scheduler.neo_rules import NeoConfig

COSTS = (
    FlatCost(linear_base_ms=5.0, linear_token_ms=0.01, device_token_ms=0.001, host_token_ms=0.002),
    FlatCost(linear_base_ms=5.0, linear_token_ms=0.2, prefill_token_ms=0.01, host_sequence_ms=2.0, host_token_ms=0.05),
    FlatCost(linear_base_ms=1.0, host_sequence_ms=500.0),  # a useless host
    FlatCost(),  # nothing costs anything
)


@dataclass(frozen=True)
class Asked:
    """A request: when it comes, how long it is, what becomes of it."""

    at_step: int
    prompt: int
    output: int
    priority: int
    aborted_at: int | None
    shares: bool


asked = st.builds(
    Asked,
    at_step=st.integers(0, 60),
    prompt=st.integers(1, 150),
    output=st.integers(1, 60),
    priority=st.integers(0, 1),
    aborted_at=st.none() | st.integers(0, 120),
    shares=st.booleans(),
)


class Machine:
    """Checks of every step that a runner would rely on, and a record of what is where."""

    def __init__(self, device_blocks: int, host_blocks: int, config: NeoConfig) -> None:
        self.blocks = {Place.DEVICE: device_blocks, Place.HOST: host_blocks}
        self.config = config

    def execute(self, step: Step) -> None:
        assert len(step.batches) in (0, 1, 2)
        assert len({swap.target for swap in step.swaps}) <= 1, "both ways in one step"
        for swap in step.swaps:
            assert len(swap.source_blocks) == len(swap.target_blocks) >= blocks_for(swap.sequence.computed)
            assert swap.sequence.place is swap.target
        names = [chunk.sequence.id for chunk in step.chunks]
        assert len(set(names)) == len(names) <= self.config.max_sequences
        assert sum(batch.tokens for batch in step.batches) <= self.config.max_batched_tokens
        written: set[tuple[Place, int]] = set()
        for chunk in step.chunks:
            sequence = chunk.sequence
            assert chunk.start == sequence.computed
            assert 1 <= chunk.count <= sequence.remaining
            assert chunk.draws == (chunk.count == sequence.remaining)
            assert chunk.place is sequence.place
            assert len(sequence.blocks) >= blocks_for(chunk.start + chunk.count)
            for position in range(chunk.start, chunk.start + chunk.count):
                slot = (chunk.place, sequence.blocks[position // 16] * 16 + position % 16)
                assert slot not in written, "two tokens in one place"
                written.add(slot)
        if len(step.batches) == 2:
            assert not step.batches[1].prefills
            assert not step.batches[1].device_decodes
        for batch in step.batches:
            assert {chunk.place for chunk in batch.device_decodes} <= {Place.DEVICE}
            assert {chunk.place for chunk in batch.host_decodes} <= {Place.HOST}


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(asked, min_size=1, max_size=14),
    cost=st.sampled_from(COSTS),
    device_blocks=st.integers(1, 30),
    host_blocks=st.integers(0, 60),
    max_sequences=st.integers(1, 8),
    max_batched_tokens=st.sampled_from([16, 40, 200]),
    sharing=st.booleans(),
)
@example(  # one that is overdue while the device has nothing to do
    requests=[Asked(0, 1, 17, 0, None, False), Asked(0, 1, 20, 0, None, False)],
    cost=COSTS[2],
    device_blocks=1,
    host_blocks=3,
    max_sequences=1,
    max_batched_tokens=16,
    sharing=False,
)
def test_books_balance_nobody_starves_and_output_is_as_asked(
    requests: list[Asked],
    cost: FlatCost,
    device_blocks: int,
    host_blocks: int,
    max_sequences: int,
    max_batched_tokens: int,
    sharing: bool,
) -> None:
    config = NeoConfig(max_sequences, max_batched_tokens, saturating_tokens=32, patience_ms=2_000.0)
    scheduler = NeoScheduler(config, cost, device_blocks, host_blocks, sharing=sharing)
    machine = Machine(device_blocks, host_blocks, config)
    live: dict[str, Sequence] = {}
    done: dict[str, Sequence] = {}
    now_ns = 0
    for number in range(20_000):
        for index, one in enumerate(requests):
            if one.at_step == number:
                name = f"s{index}"
                tokens = [0 if one.shares else index + 1] * one.prompt
                sequence = Sequence(name, tokens, one.prompt, one.output, now_ns, priority=one.priority)
                try:
                    scheduler.add(sequence, now_ns)
                    live[name] = sequence
                except InvalidRequest:
                    assert blocks_for(one.prompt) > max(device_blocks, host_blocks)
            if one.aborted_at == number:
                assert scheduler.abort(f"s{index}", now_ns) is (live.pop(f"s{index}", None) is not None)
        step = scheduler.schedule(now_ns)
        if step is None:
            assert not live, "work is left and nothing is done"
            if number > 120:
                break
            continue
        machine.execute(step)
        took_ns = round(step_ms(cost, step) * MS) + MS
        now_ns += took_ns
        drawn = {chunk.sequence.id: 7 for chunk in step.chunks if chunk.draws}
        ended = {name for name in drawn if live[name].output_len + 1 == live[name].max_tokens}
        scheduler.on_step(step, drawn, ended, took_ns, now_ns)
        scheduler.check()
        for name in ended:
            done[name] = live.pop(name)
    else:
        raise AssertionError("somebody starves")
    assert not scheduler.has_work()
    state = scheduler.state()
    assert (state.device_blocks_used, state.host_blocks_used) == (0, 0)
    for sequence in done.values():
        assert sequence.output_len == sequence.max_tokens
