"""Time as a heap of calls: no wall clock, ties in order of scheduling, so that one seed gives one history."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from skyfog_core.clock import ManualClock
from skyfog_core.errors import SkyfogError


class NotOver(SkyfogError):
    """A history did not end within its limit of calls: something wakes itself for ever."""


class Kernel:
    """Runs scheduled calls in order of time; the clock jumps from one to the next."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.now_ns = self.clock.now_ns()
        self.calls = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when_ns: int, call: Callable[[], None]) -> None:
        """Schedule `call`; what is in the past runs now, after what is scheduled for now already."""
        heapq.heappush(self._heap, (max(when_ns, self.now_ns), next(self._order), call))

    def after(self, delay_ns: int, call: Callable[[], None]) -> None:
        self.at(self.now_ns + delay_ns, call)

    def run(
        self,
        until_ns: int | None = None,
        limit: int = 1_000_000,
        after_each: Callable[[], None] = lambda: None,
    ) -> None:
        """Run until nothing is scheduled, or nothing up to `until_ns`. Raises NotOver after `limit` calls."""
        for _ in range(limit):
            if not self._heap or (until_ns is not None and self._heap[0][0] > until_ns):
                break
            when_ns, _, call = heapq.heappop(self._heap)
            self._move(when_ns)
            self.calls += 1
            call()
            after_each()
        else:
            raise NotOver(f"not over after {limit} calls, at {self.now_ns} ns")
        if until_ns is not None:
            self._move(until_ns)

    def _move(self, to_ns: int) -> None:
        if to_ns > self.now_ns:
            self.clock.advance(to_ns - self.now_ns)
            self.now_ns = to_ns


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
        if self._set_ns != due:
            return  # an earlier one was set since, and rang
        self._set_ns = None
        wanted = self._next_ns()
        if wanted is not None and wanted <= self._kernel.now_ns:
            self._wake()
        else:
            self.reset()
