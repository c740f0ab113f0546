"""What a careful ROS 2 user writes around several servers: a time-out for each try, and the next server after it.

The server that answered last is asked first, so that a dead one costs one time-out and not one a call. A late answer of
an earlier try still counts.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass


@dataclass(slots=True)
class _Call:
    server: int
    tries: int


class TimeoutRetry:
    """Pure: says which server to ask, and when to give up."""

    def __init__(self, servers: int, try_ns: int, max_tries: int) -> None:
        if servers < 1 or try_ns < 1 or max_tries < 1:
            raise ValueError(f"{servers} servers, {try_ns} ns, {max_tries} tries: at least one of each")
        self._servers = servers
        self._try_ns = try_ns
        self._max_tries = max_tries
        self._preferred = 0
        self._open: dict[int, _Call] = {}
        self._timers: list[tuple[int, int]] = []

    def on_call(self, call: int, now_ns: int) -> int:
        """The server to ask first."""
        self._open[call] = _Call(self._preferred, 1)
        heapq.heappush(self._timers, (now_ns + self._try_ns, call))
        return self._preferred

    def on_answer(self, call: int, server: int) -> bool:
        """Whether this answer is the call's: the first."""
        if self._open.pop(call, None) is None:
            return False
        self._preferred = server
        return True

    def on_timer(self, now_ns: int) -> list[tuple[int, int | None]]:
        """Calls whose try is over: the server to ask now, None where it is given up."""
        due: list[tuple[int, int | None]] = []
        while self._timers and self._timers[0][0] <= now_ns:
            _, number = heapq.heappop(self._timers)
            call = self._open.get(number)
            if call is None:
                continue
            if call.tries >= self._max_tries:
                del self._open[number]
                due.append((number, None))
                continue
            call.tries += 1
            if call.server == self._preferred:
                self._preferred = (self._preferred + 1) % self._servers
            call.server = (call.server + 1) % self._servers
            heapq.heappush(self._timers, (now_ns + self._try_ns, number))
            due.append((number, call.server))
        return due

    def next_timer_ns(self) -> int | None:
        """When `on_timer` is due next."""
        while self._timers and self._timers[0][1] not in self._open:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None
