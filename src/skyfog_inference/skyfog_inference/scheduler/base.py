"""What every scheduler takes and gives. A scheduler is pure: it sees lengths, blocks and times, never a tensor.

The engine's loop is: `schedule` -> runner executes the step -> sampler draws -> `on_step`. Between two steps it
adds and aborts. The simulation runs the same loop with a cost model in place of the runner.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from skyfog_inference.request import Place, Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of tokens of one sequence that a step computes: part of a prompt, or the one token of a decode.

    Positions `start` to `start + count - 1`; the keys and values go to `place`, into `sequence.blocks`, which the
    scheduler has made long enough. `draws`: the last one's logits are wanted.
    """

    sequence: Sequence
    start: int
    count: int
    place: Place
    draws: bool


@dataclass(frozen=True, slots=True)
class Swap:
    """Keys and values of a whole sequence move between the tiers, before anything of the step is computed."""

    sequence: Sequence
    source: Place
    target: Place
    source_blocks: tuple[int, ...]
    target_blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SubBatch:
    """What goes through the model together. Its tokens lie flat in this order: prefills, device and host decodes."""

    prefills: tuple[Chunk, ...] = ()
    device_decodes: tuple[Chunk, ...] = ()
    host_decodes: tuple[Chunk, ...] = ()

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """All of it, in the order of its tokens."""
        return self.prefills + self.device_decodes + self.host_decodes

    @property
    def tokens(self) -> int:
        """How many tokens it computes."""
        return sum(chunk.count for chunk in self.prefills) + len(self.device_decodes) + len(self.host_decodes)


@dataclass(frozen=True, slots=True)
class Step:
    """What the runner does next: first the swaps, then one sub-batch, or two of them side by side (NEO section 3)."""

    batches: tuple[SubBatch, ...]
    swaps: tuple[Swap, ...] = ()

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Those of all sub-batches."""
        return tuple(chunk for batch in self.batches for chunk in batch.chunks)


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """Figures for `/metrics` and the state topic."""

    waiting: int
    on_device: int
    on_host: int
    device_blocks_used: int
    device_blocks: int
    host_blocks_used: int
    host_blocks: int
    preemptions: int
    shared_tokens: int  # prompt tokens that were not computed since another sequence had them


class Scheduler(Protocol):
    """One policy for the order of the work."""

    def add(self, sequence: Sequence, now_ns: int) -> None:
        """Take a sequence on; `max_tokens` is lowered to what fits. Raises InvalidRequest where it can never fit."""
        ...

    def abort(self, sequence_id: str, now_ns: int) -> bool:
        """Drop a sequence and free what it holds; False where there is none of this id. Never within a step.

        Where a step failed, all sequences of its chunks and swaps are aborted, and `on_step` is not called.
        """
        ...

    def schedule(self, now_ns: int) -> Step | None:
        """Choose the next step and take its blocks; None where nothing can be done."""
        ...

    def on_step(self, step: Step, drawn: Mapping[str, int], ended: Collection[str], took_ns: int, now_ns: int) -> None:
        """A step is done: `drawn` are the tokens by sequence, `ended` the sequences that go no further.

        One whose chunk draws and that has no token failed: what was computed for it is not to be shared.
        """
        ...

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that it can bring to its end."""
        ...

    def has_work(self) -> bool:
        """Whether any sequence is not ended."""
        ...

    def state(self) -> SchedulerState: ...

    def check(self) -> None:
        """Raise AssertionError where the books do not balance."""
        ...
