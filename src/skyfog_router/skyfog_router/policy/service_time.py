"""How long the service takes at this replica, from what it took lately. Few numbers, and only fresh ones.

Two questions are asked, and both must err on the side of taking a request. How long does a request take at the very
least: a low quantile of the runs that ended by themselves. How fast does the queue move: the mean time that a request
holds a slot, where one that was withdrawn before it ran counts as nothing, since losers are withdrawn all the time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from skyfog_core.units import S

WINDOW = 64  # runs
MAX_AGE_NS = 60 * S
MIN_SAMPLES = 20
LOW = 0.05
MEAN_WEIGHT = 1 / 16  # of the newest in the decayed mean


class ServiceTime:
    """Decayed in count and in age. All durations in ns."""

    def __init__(self) -> None:
        self._runs: deque[tuple[int, int]] = deque()  # when it ended, how long it took
        self._sorted: list[int] = []
        self._slot_ns: float | None = None

    def ran(self, took_ns: int, now_ns: int) -> None:
        """A run ended by itself: neither stopped, nor given up, nor refused by the service."""
        self._runs.append((now_ns, took_ns))
        insort(self._sorted, took_ns)
        if len(self._runs) > WINDOW:
            self._drop()
        self.forget(now_ns)

    def left(self, slot_ns: int) -> None:
        """A request that was taken is gone, after it held a slot for `slot_ns`; 0 where it never had one."""
        old = slot_ns if self._slot_ns is None else self._slot_ns
        self._slot_ns = old + (slot_ns - old) * MEAN_WEIGHT

    def forget(self, now_ns: int) -> None:
        """Drop what is too old to tell anything."""
        while self._runs and self._runs[0][0] + MAX_AGE_NS <= now_ns:
            self._drop()

    @property
    def low_ns(self) -> int:
        """Hardly any run takes less; 0 where too few are known."""
        return self._sorted[int(LOW * len(self._sorted))] if len(self._sorted) >= MIN_SAMPLES else 0

    @property
    def typical_ns(self) -> int:
        """The median; 0 where nothing is known."""
        return self._sorted[len(self._sorted) // 2] if self._sorted else 0

    @property
    def slot_ns(self) -> int:
        """Mean time that a taken request holds a slot; 0 where nothing is known."""
        return int(self._slot_ns or 0)

    def check(self) -> None:
        """Raise AssertionError if the two views of the runs differ."""
        assert len(self._runs) == len(self._sorted) <= WINDOW
        assert sorted(took for _, took in self._runs) == self._sorted

    def _drop(self) -> None:
        _, took_ns = self._runs.popleft()
        del self._sorted[bisect_left(self._sorted, took_ns)]
