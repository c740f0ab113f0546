"""Requests that wait together run as one batch. No thread of its own, and nobody waits for company.

The first request that finds the model free runs at once. Those that arrive meanwhile wait; when the model is free
again, one of their threads runs all of them (up to a limit) as one batch, and the others find their results. A lone
request thus pays nothing. One that is withdrawn while it waits, or whose deadline passes, leaves at once as not run.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from skyfog_core.cancel import Cancellation
from skyfog_core.clock import Clock
from skyfog_core.errors import NotExecuted, Overloaded
from skyfog_core.units import S

Tensor = npt.NDArray[Any]
Outputs = list[npt.NDArray[np.float32]]
Run = Callable[[Tensor], Outputs]

WAKE_S = 0.001  # a wait may end a little early by the other clock


@dataclass(slots=True, eq=False)
class Item:
    """One request: its tensor of shape [1, …], and in the end its outputs or an error."""

    tensor: Tensor
    deadline_ns: int | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    outputs: Outputs | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is something to return or to raise."""
        return self.outputs is not None or self.error is not None

    def refuse_if_in_vain(self, now_ns: int) -> None:
        """Give what has not begun an error, where it is too late or withdrawn."""
        if self.cancellation.is_set():
            self.error = NotExecuted("withdrawn before the model was free")
        elif self.deadline_ns is not None and self.deadline_ns <= now_ns:
            self.error = NotExecuted("its time ran out before the model was free")


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
        """The next batch, at most `max_batch`; what need not run gets its error and is left out."""
        batch: list[Item] = []
        while self.items and len(batch) < self.max_batch:
            item = self.items.popleft()
            item.refuse_if_in_vain(now_ns)
            if not item.is_done:
                batch.append(item)
        return batch

    def leave(self, item: Item, now_ns: int) -> None:
        """Give up the place of an item that waits, where it need not run."""
        item.refuse_if_in_vain(now_ns)
        if item.is_done:
            self.items.remove(item)


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
        self._is_busy = False
        self._changed = threading.Condition()

    def submit(self, item: Item) -> Outputs:
        """The item's outputs. Blocks while others run.

        Raises Overloaded when too many wait, NotExecuted when its deadline passed, or it was withdrawn, before it
        started.
        """
        with self._changed:
            self._waiting.add(item)
        item.cancellation.on_cancel(self._wake)
        with self._changed:
            while not item.is_done:
                if self._is_busy:
                    self._wait(item)
                else:
                    self._run_next()
        if item.error is not None:
            raise item.error
        assert item.outputs is not None
        return item.outputs

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait(self, item: Item) -> None:
        """Until something has changed, or the item's deadline; lets go of the lock meanwhile."""
        now_ns = self._clock.now_ns()
        if item in self._waiting.items:
            self._waiting.leave(item, now_ns)
            if item.is_done:
                return
            due_ns = item.deadline_ns
        else:
            due_ns = None  # it runs, in another's batch
        self._changed.wait(None if due_ns is None else (due_ns - now_ns) / S + WAKE_S)

    def _run_next(self) -> None:
        """Run the next batch in this thread; lets go of the lock meanwhile."""
        batch = self._waiting.take(self._clock.now_ns())
        if not batch:
            return
        self._is_busy = True
        self._changed.release()
        try:
            run_batch(batch, self._run)
        finally:
            self._changed.acquire()
            self._is_busy = False
            self._changed.notify_all()
