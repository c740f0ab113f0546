"""A runner without a model: its cache holds tokens, and what it reads back from the blocks makes the logits.

A block that is lost, given to two sequences or shared wrongly changes the text, as it would with a model's keys and
values; `expected` says what the text should be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import torch

from skyfog_inference.blocks import BLOCK_SIZE
from skyfog_inference.request import Place
from skyfog_inference.runner.base import StepOutput
from skyfog_inference.scheduler.base import Chunk, Step

VOCAB = 40
NOTHING = -1
STEP_NS = 1_000_000


def logits_of(context: Iterable[int]) -> torch.Tensor:
    """fp32 [VOCAB]: any sequence of tokens has its own."""
    digest = hashlib.blake2b(repr(list(context)).encode(), digest_size=VOCAB).digest()
    return torch.tensor([byte / 16 for byte in digest], dtype=torch.float32)


def expected(prompt: Sequence[int], count: int, stops: Iterable[int] = ()) -> list[int]:
    """The most likely tokens after a prompt, up to the first of `stops`."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + count:
        tokens.append(int(logits_of(tokens).argmax()))
        if tokens[-1] in set(stops):
            break
    return tokens[len(prompt) :]


class FakeRunner:
    """Checks every step against what a runner may expect."""

    def __init__(self, device_blocks: int, host_blocks: int = 0) -> None:
        self.device_blocks = device_blocks
        self.host_blocks = host_blocks
        self.closed = False
        self.steps: list[Step] = []
        self.fault: Callable[[Step], None] | None = None  # may raise
        self.spoil: Callable[[Chunk, torch.Tensor], torch.Tensor] | None = None  # may change logits
        self._cache = {
            Place.DEVICE: [[NOTHING] * BLOCK_SIZE for _ in range(device_blocks)],
            Place.HOST: [[NOTHING] * BLOCK_SIZE for _ in range(host_blocks)],
        }

    def execute(self, step: Step) -> StepOutput:
        assert step.chunks or step.swaps, "a step with nothing to do"
        self.steps.append(step)
        if self.fault is not None:
            self.fault(step)
        for swap in step.swaps:
            assert len(swap.source_blocks) == len(swap.target_blocks)
            source, target = self._cache[swap.source], self._cache[swap.target]
            for old, new in zip(swap.source_blocks, swap.target_blocks, strict=True):
                target[new] = list(source[old])
        for chunk in step.chunks:
            self._write(chunk)
        rows, names = [], []
        for chunk in step.chunks:
            if chunk.draws:
                logits = logits_of(self._read(chunk))
                rows.append(logits if self.spoil is None else self.spoil(chunk, logits))
                names.append(chunk.sequence.id)
        logits = torch.stack(rows) if rows else torch.empty(0, VOCAB)
        return StepOutput(tuple(names), logits, STEP_NS)

    def close(self) -> None:
        self.closed = True

    def _write(self, chunk: Chunk) -> None:
        sequence, cache = chunk.sequence, self._cache[chunk.place]
        assert chunk.place is sequence.place
        assert chunk.start == sequence.computed
        assert chunk.count > 0
        assert chunk.draws == (chunk.start + chunk.count == len(sequence.tokens))
        for position in range(chunk.start, chunk.start + chunk.count):
            block, offset = divmod(position, BLOCK_SIZE)
            cache[sequence.blocks[block]][offset] = sequence.tokens[position]

    def _read(self, chunk: Chunk) -> list[int]:
        cache = self._cache[chunk.place]
        held = [token for block in chunk.sequence.blocks for token in cache[block]]
        return held[: chunk.start + chunk.count]
