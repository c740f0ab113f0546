"""Time as a heap of calls: no wall clock, ties in order of scheduling, so one seed gives one history."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Kernel:
    """Runs scheduled calls in order of time; `now_ns` jumps from one to the next."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when_ns: int, call: Callable[[], None]) -> None:
        """Schedule `call`; what is in the past runs now, after what is scheduled for now already."""
        heapq.heappush(self._heap, (max(when_ns, self.now_ns), next(self._order), call))

    def after(self, delay_ns: int, call: Callable[[], None]) -> None:
        self.at(self.now_ns + delay_ns, call)

    def run(self, limit: int = 1_000_000) -> None:
        """Run until nothing is scheduled. Raises RuntimeError after `limit` calls."""
        for _ in range(limit):
            if not self._heap:
                return
            self.now_ns, _, call = heapq.heappop(self._heap)
            call()
        raise RuntimeError(f"not over after {limit} calls, at {self.now_ns} ns")


class Alarm:
    """Wakes a policy when its `next_timer_ns` says. `wake` ends in `reset`, as every event of the policy does."""

    def __init__(self, kernel: Kernel, next_ns: Callable[[], int | None], wake: Callable[[], None]) -> None:
        self._kernel, self._next_ns, self._wake = kernel, next_ns, wake
        self._set_ns: int | None = None

    def reset(self) -> None:
        """Look again when to wake."""
        due = self._next_ns()
        if due is not None and (self._set_ns is None or due < self._set_ns):
            self._set_ns = due
            self._kernel.at(due, lambda: self._ring(due))

    def _ring(self, due: int) -> None:
        if self._set_ns == due:
            self._set_ns = None
            self._wake()
