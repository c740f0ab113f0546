"""Time as a duration source: steady, integer nanoseconds. ROS time is for stamps only."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a driver reads `now_ns`; a policy never sees it."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary origin; never goes back."""
        ...


class SteadyClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()


class ManualClock:
    """A clock that tests and the simulation move by hand."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, by_ns: int) -> None:
        """Move forward by `by_ns`. Raises ValueError for a negative step."""
        if by_ns < 0:
            raise ValueError(f"a clock never goes back: {by_ns} ns")
        self._now_ns += by_ns
