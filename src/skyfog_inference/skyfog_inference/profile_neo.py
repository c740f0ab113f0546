"""Measures the stages of a layer for NEO's scheduler, on the parts that will run: the section `stages` of a profile.

Each stage is timed over all layers, so that weights and caches come from memory as they do in a step, and divided by
their number. The times of a table are those of a quiet machine with one worker at a time; what two at a time cost each
other is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from skyfog_core.clock import Clock
from skyfog_inference.blocks import BLOCK_SIZE, blocks_for
from skyfog_inference.cost.table import Line, Plane, StageTable, rising
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.request import Place
from skyfog_inference.request import Sequence as Tokens
from skyfog_inference.runner.batch import FlatBatch, flatten
from skyfog_inference.runner.single import SingleRunner
from skyfog_inference.scheduler.base import Chunk, SubBatch, Swap

HAND_OVERS = 200


@dataclass(frozen=True, slots=True)
class Grid:
    """What is measured: the least and the most of each number, and how often."""

    most_tokens: int = 2_048  # of a step
    most_prompt: int = 2_048
    most_context: int = 65_536  # of all decodes together, as far as the caches reach
    most_sequences: int = 128
    repeats: int = 5


QUICK = Grid(most_tokens=256, most_prompt=256, most_context=8_192, most_sequences=32, repeats=2)


def measure_stages(
    runner: SingleRunner,
    *,
    machine: str,
    dtype: str,
    device_threads: int,
    host_threads: int,
    grid: Grid,
    clock: Clock,
    say: Callable[[str], None],
) -> StageTable:
    """Time all stages on a runner with both sides, whose caches are overwritten.

    On a CPU the device has as many threads as torch has when this is called.
    """
    stages = _Stages(runner, grid, clock)
    table = {}
    for name, stage in (
        ("linear", stages.linear),
        ("prefill", stages.prefill),
        ("device_decode", stages.device_decode),
        ("host_decode", stages.host_decode),
        ("swap", stages.swap),
        ("other", stages.other),
    ):
        say(f"measuring {name.replace('_', ' ')} …")
        with torch.inference_mode():
            table[name] = stage()
    return StageTable.model_validate(
        {
            "machine": machine,
            "model": runner.config.name,
            "dtype": dtype,
            "device_threads": device_threads,
            "host_threads": host_threads,
            "layers": runner.config.layers,
            "launch_ms": stages.launch_ms(),
            **table,
        }
    )


class _Stages:
    """One stage a method."""

    def __init__(self, runner: SingleRunner, grid: Grid, clock: Clock) -> None:
        self._runner = runner
        self._grid = grid
        self._clock = clock
        self._config: ModelConfig = runner.config
        self._blocks = {Place.DEVICE: runner.device_blocks, Place.HOST: runner.host_blocks}
        self._devices = {place: side.cache.keys.device for place, side in runner.sides.items()}

    def linear(self) -> Line:
        """Everything between two attentions, by tokens."""
        stages, layers = self._runner.stages, self._config.layers

        def run(tokens: int) -> Callable[[], None]:
            flow = stages.begin(self._prompt(tokens))
            flow.attended.zero_()

            def work() -> None:
                for layer in range(layers):
                    stages.after(layer, flow)
                    stages.before((layer + 1) % layers, flow)
                    flow.attended.zero_()

            return work

        return self._line(run, powers(1, self._grid.most_tokens), layers)

    def prefill(self) -> Line:
        """Attention of one prompt on the device, storing its keys and values included, by tokens."""
        most = min(self._grid.most_prompt, self._blocks[Place.DEVICE] * BLOCK_SIZE)
        return self._line(lambda tokens: self._attention(self._prompt(tokens)), powers(16, most), self._config.layers)

    def device_decode(self) -> Line:
        """Attention of decodes on the device, by the tokens of all contexts; each has 256, or all there are."""

        def run(tokens: int) -> Callable[[], None]:
            return self._attention(self._decodes(max(tokens // 256, 1), tokens, Place.DEVICE))

        return self._line(run, self._contexts(Place.DEVICE, 16), self._config.layers)

    def host_decode(self) -> Plane:
        """Attention of decodes on the host, by sequences and by tokens of all contexts."""
        tokens = self._contexts(Place.HOST, self._grid.most_sequences)
        sequences = powers(1, min(self._grid.most_sequences, self._blocks[Place.HOST]), by=4)
        rows = [
            [
                self._time(self._attention(self._decodes(count, context, Place.HOST)), self._config.layers)
                for context in tokens
            ]
            for count in sequences
        ]
        level = [rising(row) for row in rows]
        columns = [rising(column) for column in zip(*level, strict=True)]
        return Plane(sequences=sequences, tokens=tokens, ms=tuple(zip(*columns, strict=True)))

    def swap(self) -> Line:
        """From the device to the host, by tokens; the other way takes as long."""
        most = min(self._blocks.values()) * BLOCK_SIZE

        def run(tokens: int) -> Callable[[], None]:
            blocks = tuple(range(blocks_for(tokens)))
            swap = Swap(Tokens("swap", [], 0, 0, 0), Place.DEVICE, Place.HOST, blocks, blocks)
            return lambda: self._runner.swap(swap)

        return self._line(run, powers(BLOCK_SIZE, min(most, self._grid.most_prompt), by=4), self._config.layers)

    def other(self) -> Line:
        """Embedding and logits, where each token is a decode's, by tokens."""
        stages = self._runner.stages

        def run(tokens: int) -> Callable[[], None]:
            batch = self._decodes(tokens, tokens, Place.DEVICE)
            return lambda: _consume(stages.logits(stages.begin(batch)))

        most = min(self._grid.most_sequences, self._blocks[Place.DEVICE])
        return self._line(run, powers(1, most, by=4), 1)

    def launch_ms(self) -> float:
        """Handing work to another thread and waiting for it."""
        with ThreadPoolExecutor(max_workers=1) as pool:

            def work() -> None:
                for _ in range(HAND_OVERS):
                    pool.submit(int).result()

            return self._time(work, HAND_OVERS)

    def _line(self, run: Callable[[int], Callable[[], None]], at: Sequence[int], parts: int) -> Line:
        return Line(at=tuple(at), ms=rising([self._time(run(count), parts) for count in at]))

    def _time(self, work: Callable[[], None], parts: int) -> float:
        """The least milliseconds of one of the `parts` that `work` does: what others add is not its own."""
        took = []
        for _ in range(self._grid.repeats + 1):
            begun = self._clock.now_ns()
            work()
            if self._devices[Place.DEVICE].type == "cuda":
                torch.cuda.synchronize()
            took.append((self._clock.now_ns() - begun) / 1e6 / parts)
        return min(took[1:])

    def _attention(self, batch: FlatBatch) -> Callable[[], None]:
        flow = self._runner.stages.begin(batch)

        def work() -> None:
            for layer in range(self._config.layers):
                for part in batch.parts:
                    self._runner.attend(layer, part, flow)

        return work

    def _contexts(self, place: Place, least: int) -> tuple[int, ...]:
        return powers(least, min(self._grid.most_context, self._blocks[place] * BLOCK_SIZE))

    def _prompt(self, tokens: int) -> FlatBatch:
        """Its blocks lie over each other where the cache is smaller: only the time counts."""
        blocks = self._some_blocks(Place.DEVICE, tokens)
        sequence = Tokens("p", [0] * tokens, tokens, 1, 0, place=Place.DEVICE, blocks=blocks)
        return flatten(SubBatch(prefills=(Chunk(sequence, 0, tokens, Place.DEVICE, draws=True),)), self._devices)

    def _decodes(self, count: int, context: int, place: Place) -> FlatBatch:
        """So many, with `context` tokens together: as even as can be, at least one each."""
        chunks = []
        taken = iter(_rotate(self._blocks[place]))
        for index in range(count):
            length = max(1, (context * (index + 1)) // count - (context * index) // count)
            blocks = [next(taken) for _ in range(blocks_for(length))]
            sequence = Tokens(f"d{index}", [0] * length, length, 1, 0, place=place, blocks=blocks)
            chunks.append(Chunk(sequence, length - 1, 1, place, draws=True))
        kind = "device_decodes" if place is Place.DEVICE else "host_decodes"
        return flatten(SubBatch(**{kind: tuple(chunks)}), self._devices)

    def _some_blocks(self, place: Place, tokens: int) -> list[int]:
        taken = iter(_rotate(self._blocks[place]))
        return [next(taken) for _ in range(blocks_for(tokens))]


def powers(least: int, most: int, by: int = 2) -> tuple[int, ...]:
    """least, least * by, … and at last `most`; `most` alone where it is not above `least`."""
    points = []
    point = least
    while point < most:
        points.append(point)
        point *= by
    return (*points, most)


def _rotate(count: int) -> Iterator[int]:
    """0 to count - 1 again and again."""
    while True:
        yield from range(count)


def _consume(_: torch.Tensor) -> None:
    """The result is of no use."""
