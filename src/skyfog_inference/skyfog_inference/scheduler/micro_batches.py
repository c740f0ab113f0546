"""Steps of another scheduler, cut into micro-batches for weights that are streamed (MoE-Lightning section 4.1).

Every layer's weights are loaded once for all micro-batches of a step. So decodes of all running sequences and prompts
of new ones go into one step, as large as memory allows, and what one pass of the layers holds at a time is bounded by
the size of a micro-batch. Who is admitted, which blocks it has and what is preempted is the other scheduler's choice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from skyfog_inference.placement.batching import batch
from skyfog_inference.request import Sequence as Tokens
from skyfog_inference.scheduler.base import Chunk, Scheduler, SchedulerState, Step, SubBatch


class MicroBatches:
    """A scheduler around one whose steps have one sub-batch."""

    def __init__(self, inner: Scheduler, sequences: int, prefill_tokens: int) -> None:
        """At most so many decodes in a micro-batch, or so many tokens of prompts."""
        assert sequences > 0
        assert prefill_tokens > 0
        self._inner = inner
        self._sequences = sequences
        self._prefill_tokens = prefill_tokens
        self._whole: Step | None = None  # the other's step, which it wants back

    def add(self, sequence: Tokens, now_ns: int) -> None:
        self._inner.add(sequence, now_ns)

    def abort(self, sequence_id: str, now_ns: int) -> bool:
        return self._inner.abort(sequence_id, now_ns)

    def schedule(self, now_ns: int) -> Step | None:
        self._whole = self._inner.schedule(now_ns)
        if self._whole is None:
            return None
        assert len(self._whole.batches) == 1
        whole = self._whole.batches[0]
        assert not whole.host_decodes
        prefills = [SubBatch(prefills=chunks) for chunks in packed(whole.prefills, self._prefill_tokens)]
        decodes = [SubBatch(device_decodes=chunks) for chunks in balanced(whole.device_decodes, self._sequences)]
        return replace(self._whole, batches=(*prefills, *decodes))

    def on_step(self, step: Step, drawn: Mapping[str, int], ended: Collection[str], took_ns: int, now_ns: int) -> None:
        assert self._whole is not None
        whole, self._whole = self._whole, None
        self._inner.on_step(whole, drawn, ended, took_ns, now_ns)

    @property
    def longest(self) -> int:
        return self._inner.longest

    def has_work(self) -> bool:
        return self._inner.has_work()

    def state(self) -> SchedulerState:
        return self._inner.state()

    def check(self) -> None:
        self._inner.check()


def packed(chunks: Sequence[Chunk], size: int) -> Iterator[tuple[Chunk, ...]]:
    """Prompts in their order, `size` tokens at a time; one that is cut goes on in the next micro-batch.

    That is sound since of every layer the micro-batches attend in this order.
    """
    taken: list[Chunk] = []
    room = size
    for chunk in chunks:
        start, end = chunk.start, chunk.start + chunk.count
        while start < end:
            count = min(room, end - start)
            last = start + count == end
            taken.append(Chunk(chunk.sequence, start, count, chunk.place, draws=chunk.draws and last))
            start += count
            room -= count
            if not room:
                yield tuple(taken)
                taken, room = [], size
    if taken:
        yield tuple(taken)


def balanced(chunks: Sequence[Chunk], size: int) -> Iterator[tuple[Chunk, ...]]:
    """Decodes in as few micro-batches as hold `size` sequences each, with contexts of like length together.

    The cache is no bound here: every sequence in a step has its blocks.
    """
    if not chunks:
        return
    contexts = [len(chunk.sequence.tokens) for chunk in chunks]
    count = -(-len(chunks) // size)
    for group in batch(contexts, count, -(-len(chunks) // count), 0, sum(contexts)).micro_batches:
        yield tuple(chunks[index] for index in sorted(group))
