"""Requests that wait together run as one batch. No thread of its own, and nobody waits for company.

The first request that finds the model free runs at once. Those that arrive meanwhile wait; when the model is free
again, one of their threads runs all of them (up to a limit) as one batch, and the others find their results. A lone
request thus pays nothing. One whose deadline passed while it waited is refused, since it did not start.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from skyfog_core.clock import Clock
from skyfog_core.errors import NotExecuted, Overloaded

Tensor = npt.NDArray[Any]
Outputs = list[npt.NDArray[np.float32]]
Run = Callable[[Tensor], Outputs]


@dataclass(slots=True)
class Item:
    """One request: its tensor of shape [1, …], and in the end its outputs or an error."""

    tensor: Tensor
    deadline_ns: int | None
    outputs: Outputs | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is something to return or to raise."""
        return self.outputs is not None or self.error is not None


@dataclass(slots=True)
class Waiting:
    """What waits, oldest first, and who goes next. Pure."""

    max_batch: int
    max_queue: int
    items: deque[Item] = field(default_factory=deque)

    def add(self, item: Item) -> None:
        """Raises Overloaded when full."""
        if len(self.items) >= self.max_queue:
            raise Overloaded(f"{len(self.items)} requests wait for the model already")
        self.items.append(item)

    def take(self, now_ns: int) -> list[Item]:
        """The next batch, at most `max_batch`; those that are too late get their error and are left out."""
        batch: list[Item] = []
        while self.items and len(batch) < self.max_batch:
            item = self.items.popleft()
            if item.deadline_ns is not None and item.deadline_ns <= now_ns:
                item.error = NotExecuted("its time ran out before the model was free")
            else:
                batch.append(item)
        return batch


def run_batch(batch: Sequence[Item], run: Run) -> None:
    """Run tensors of shape [1, …] as one of [N, …] and give each item its part, or all of them the error."""
    try:
        outputs = run(batch[0].tensor if len(batch) == 1 else np.concatenate([item.tensor for item in batch]))
        for output in outputs:
            if output.shape[:1] != (len(batch),):
                raise RuntimeError(f"a batch of {len(batch)} gave an output of shape {list(output.shape)}")  # noqa: TRY301
    except Exception as error:  # noqa: BLE001 - each waiting thread raises it
        for item in batch:
            item.error = error
        return
    for i, item in enumerate(batch):
        item.outputs = [output[i : i + 1] for output in outputs]


class Batcher:
    """Runs a model for several threads, one batch at a time."""

    def __init__(self, run: Run, clock: Clock, max_batch: int, max_queue: int) -> None:
        """`run` takes [N, …], N up to `max_batch`, and returns outputs of [N, …]."""
        self._run = run
        self._clock = clock
        self._waiting = Waiting(max_batch, max_queue)
        self._books = threading.Lock()
        self._turn = threading.Lock()

    def submit(self, tensor: Tensor, deadline_ns: int | None) -> Outputs:
        """The outputs for a tensor [1, …]. Blocks while others run.

        Raises Overloaded when too many wait, NotExecuted when `deadline_ns` passed before it started.
        """
        item = Item(tensor, deadline_ns)
        with self._books:
            self._waiting.add(item)
        while not item.is_done:
            with self._turn:
                if not item.is_done:
                    self._next_batch()
        if item.error is not None:
            raise item.error
        assert item.outputs is not None
        return item.outputs

    def _next_batch(self) -> None:
        with self._books:
            batch = self._waiting.take(self._clock.now_ns())
        if batch:
            run_batch(batch, self._run)
