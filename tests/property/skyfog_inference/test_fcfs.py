"""The default scheduler under any requests, arenas and withdrawals, with a runner that reads what the blocks hold.

Kept: every sequence ends with exactly its tokens, whatever was shared, preempted and swapped; the books balance after
every step; of equal priority who came first is never kept waiting by who came later; work ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from skyfog_inference.blocks import BLOCK_SIZE
from skyfog_inference.request import Place, Sequence
from skyfog_inference.scheduler.base import Step
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from support.fake_runner import FakeRunner, expected

MOST_STEPS = 3_000


@dataclass(frozen=True)
class Ask:
    prompt: list[int]
    count: int
    priority: int
    after: int  # steps
    abort_after: int | None  # steps


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    shared = draw(st.integers(0, 3)) * BLOCK_SIZE
    own, kind = draw(st.integers(1, 40)), draw(st.integers(0, 3))
    return Ask(
        prompt=[i // BLOCK_SIZE for i in range(shared)] + [(kind + i * i) % 5 for i in range(own)],
        count=draw(st.integers(1, 60)),
        priority=draw(st.sampled_from([0, 0, 0, 1])),
        after=draw(st.sampled_from([0, 0, 0, 1, 9, 25])),
        abort_after=draw(st.sampled_from([None] * 6 + [0, 3, 40])),
    )


class Loop:
    """The engine's loop without an engine."""

    def __init__(self, scheduler: FcfsScheduler, runner: FakeRunner) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.steps = 0
        self.begun: dict[Sequence, int] = {}  # and in which step
        self.live: dict[str, Sequence] = {}
        self.done: dict[str, list[int]] = {}

    def add(self, sequence: Sequence) -> None:
        self.scheduler.add(sequence, self.steps)
        self.live[sequence.id] = sequence

    def abort(self, name: str) -> None:
        assert self.scheduler.abort(name, self.steps) == (self.live.pop(name, None) is not None)

    def step(self) -> Step | None:
        step = self.scheduler.schedule(self.steps)
        self.scheduler.check()
        assert (step is None) == (not self.live), "work and no step, or a step and no work"
        if step is None:
            return None
        self.steps += 1
        assert self.steps < MOST_STEPS, "no progress"
        for chunk in step.chunks:
            self.begun.setdefault(chunk.sequence, self.steps)
        output = self.runner.execute(step)
        drawn = {name: int(row.argmax()) for name, row in zip(output.sequences, output.logits, strict=True)}
        ended = {name for name in drawn if self.live[name].output_len + 1 == self.live[name].max_tokens}
        self.scheduler.on_step(step, drawn, ended, output.took_ns, self.steps)
        self.scheduler.check()
        for name in ended:
            sequence = self.live.pop(name)
            self.done[name] = sequence.tokens[sequence.prompt_len :]
        return step


@given(
    st.lists(asks(), min_size=1, max_size=10),
    st.sampled_from([6, 7, 9, 14]),
    st.sampled_from([0, 3, 8, 100]),
    st.sampled_from([1, 5, 16, 64, 1_000]),
    st.sampled_from([1, 3, 100, 100]),
    st.booleans(),
)
@settings(max_examples=120)
def test_every_sequence_ends_with_exactly_its_tokens(
    wanted: list[Ask], blocks: int, host_blocks: int, tokens: int, sequences: int, sharing: bool
) -> None:
    scheduler = FcfsScheduler(
        blocks, host_blocks, max_batched_tokens=tokens, max_sequences=sequences, prefix_sharing=sharing
    )
    loop = Loop(scheduler, FakeRunner(blocks, host_blocks))
    room = blocks * BLOCK_SIZE + 1
    turn = 0
    while turn <= 60 or loop.live:
        for number, ask in enumerate(wanted):
            if ask.after == turn:
                loop.add(Sequence(f"s{number}", list(ask.prompt), len(ask.prompt), ask.count, turn, ask.priority))
            if ask.abort_after is not None and ask.after + ask.abort_after == turn:
                loop.abort(f"s{number}")
        step = loop.step()
        if step is not None:
            limits(step, tokens, sequences)
        turn += 1
    for number, ask in enumerate(wanted):
        if f"s{number}" in loop.done:
            most = min(ask.count, room - len(ask.prompt))
            assert loop.done[f"s{number}"] == expected(ask.prompt, most)
        else:
            assert ask.abort_after is not None
    state = scheduler.state()
    assert (state.waiting, state.on_device, state.on_host) == (0, 0, 0)
    assert (state.device_blocks_used, state.host_blocks_used) == (0, 0), "blocks leak"
    fair(loop.begun)


def limits(step: Step, tokens: int, sequences: int) -> None:
    assert sum(chunk.count for chunk in step.chunks) <= tokens
    assert len(step.chunks) <= sequences
    assert len({swap.target for swap in step.swaps}) <= 1, "swaps go both ways"
    assert all(chunk.place is Place.DEVICE for chunk in step.chunks)


def fair(begun: dict[Sequence, int]) -> None:
    """Of those of one priority, who came first began no later."""
    for priority in (0, 1):
        same = [sequence for sequence in begun if sequence.priority == priority]
        for one in same:
            assert all(begun[one] <= begun[other] for other in same if one.arrived_ns < other.arrived_ns)
