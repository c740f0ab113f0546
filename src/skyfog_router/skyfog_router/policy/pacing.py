"""When an answer may leave for the clients of a service.

DDS hands every client of a service every answer, and each picks out its own. A client's queue holds ten by default, and
what overflows is lost without a word: of 50 answers at once to ten ordinary clients, up to half never arrived. So where
several clients share a service, a burst leaves at once up to BURST and then one by one, at a pace that a process which
holds all those clients keeps up with. A lone client is not slowed: how deep its queue is, is its own choice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from skyfog_core.units import MS

BURST = 5  # half of a default queue
GAP_NS_A_CLIENT = MS // 2  # taking one answer off one queue costs rclpy up to this on a busy machine
COUNT_NS = 100 * MS  # how long a count of clients is believed
MAX_DELAY_NS = 250 * MS  # a longer queue than this leaves faster, rather than later and later


class Pacer:
    """A token bucket whose rate depends on how many clients there are. Answers leave in order, none is dropped."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._next_ns = 0  # a virtual clock: it is BURST gaps behind where nothing was sent of late
        self._clients = 1
        self._counted_ns = -COUNT_NS

    def on_answer(self, answer: Any, clients: Callable[[], int], now_ns: int) -> list[Any]:
        """An answer is ready. Returns what leaves now; `clients` counts them, and is asked every COUNT_NS at most."""
        self._waiting.append(answer)
        return self.on_timer(clients, now_ns)

    def on_timer(self, clients: Callable[[], int], now_ns: int) -> list[Any]:
        """Returns what leaves now."""
        sent: list[Any] = []
        if self._waiting and now_ns - self._counted_ns >= COUNT_NS:
            self._clients, self._counted_ns = clients(), now_ns
        while self._waiting and self._next_ns <= now_ns:
            gap_ns = self._gap_ns()
            self._next_ns = max(self._next_ns, now_ns - (BURST - 1) * gap_ns) + gap_ns
            sent.append(self._waiting.popleft())
        return sent

    def next_timer_ns(self) -> int | None:
        """When the next waiting answer may leave."""
        return self._next_ns if self._waiting else None

    def drain(self) -> list[Any]:
        """Everything that waits: the service is closing."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _gap_ns(self) -> int:
        if self._clients < 2:
            return 0
        return min(self._clients * GAP_NS_A_CLIENT, MAX_DELAY_NS // len(self._waiting))
