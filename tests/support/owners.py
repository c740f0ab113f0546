"""An owner without a thread, for drivers in unit tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from skyfog_core.clock import Clock
from skyfog_core.errors import Overloaded

T = TypeVar("T")


class StepOwner:
    """Stands in for skyfog_core.owner.Owner: what is posted runs when the test says so."""

    made: list[StepOwner] = []

    def __init__(self, name: str, clock: Clock, on_timer: Callable[[int], int | None], limit: int) -> None:
        self._clock, self._on_timer, self._limit = clock, on_timer, limit
        self._inbox: deque[Callable[[int], None]] = deque()
        StepOwner.made.append(self)

    def start(self) -> None:
        pass

    def submit(self, call: Callable[[int], None]) -> None:
        if len(self._inbox) >= self._limit:
            raise Overloaded("full")
        self._inbox.append(call)

    def post(self, call: Callable[[int], None]) -> None:
        self._inbox.append(call)

    def ask(self, call: Callable[[int], T], limit_s: float) -> T:
        self.step()
        return call(self._clock.now_ns())

    def close(self, last: Callable[[int], None]) -> None:
        self._inbox.append(last)
        self.step()

    def step(self) -> bool:
        """Run what is queued, then the timer. Returns whether anything was queued."""
        worked = bool(self._inbox)
        while self._inbox:
            self._inbox.popleft()(self._clock.now_ns())
        self._on_timer(self._clock.now_ns())
        return worked
