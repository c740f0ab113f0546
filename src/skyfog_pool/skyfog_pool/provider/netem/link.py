"""What one direction of an emulated link does to packets. Pure: times and draws are given."""

from __future__ import annotations

from collections import deque

from skyfog_core.opportunities import PACKET_BYTES, Opportunities
from skyfog_core.units import MS
from skyfog_pool.provider.netem.network import CLEAR, Impairment


class Link:
    """One direction between two zones."""

    def __init__(self) -> None:
        self._how = CLEAR
        self._trace: Opportunities | None = None
        self._begins_ns = 0  # of the trace
        self._turn = 0  # opportunity of the trace that the last packet used
        self._room = 0  # bytes that are left in it
        self._free_ns = 0  # of a limited rate: when the last packet has left
        self._waiting: deque[tuple[int, int]] = deque()  # (when it leaves, bytes)
        self._waiting_bytes = 0
        self._last_ns = 0  # when the last packet arrives
        self.carried = 0
        self.carried_bytes = 0
        self.dropped = 0

    def shape(self, how: Impairment, trace: Opportunities | None, now_ns: int) -> None:
        """From now on `how`; `trace` is what its file holds. What waits in the queue leaves as was foreseen."""
        self._how = how
        self._trace = trace
        self._begins_ns = how.trace_begins_ns or now_ns
        self._free_ns = self._waiting[-1][0] if self._waiting else now_ns
        if trace is not None:
            self._turn, self._room = trace.first(self._free_ns - self._begins_ns), PACKET_BYTES

    def admit(self, size: int, now_ns: int, chance: float, deviation: float) -> int | None:
        """When a packet of `size` bytes arrives; None where it is lost.

        `chance` is uniform in [0, 1), `deviation` standard normal; both are drawn for each packet.
        """
        how = self._how
        left_ns = None if not how.up or chance < how.loss else self._leave(size, now_ns)
        if left_ns is None:
            self.dropped += 1
            return None
        delay_ns = max(0, round((how.delay_ms + deviation * how.jitter_ms) * MS))
        self._last_ns = max(self._last_ns, left_ns + delay_ns)
        self.carried += 1
        self.carried_bytes += size
        return self._last_ns

    def _leave(self, size: int, now_ns: int) -> int | None:
        """When the packet's last byte leaves the queue; None where the queue does not take it."""
        how = self._how
        if self._trace is None and not how.rate_mbit:
            return now_ns
        while self._waiting and self._waiting[0][0] <= now_ns:
            self._waiting_bytes -= self._waiting.popleft()[1]
        if how.queue_bytes and self._waiting_bytes + size > how.queue_bytes:
            return None
        if self._trace is not None:
            leaves_ns = self._by_trace(self._trace, size, now_ns)
        else:
            leaves_ns = self._by_rate(size, now_ns)
        if leaves_ns is not None:
            self._waiting.append((leaves_ns, size))
            self._waiting_bytes += size
        return leaves_ns

    def _by_rate(self, size: int, now_ns: int) -> int | None:
        begins_ns = max(now_ns, self._free_ns)
        if begins_ns - now_ns > self._how.queue_ms * MS:
            return None
        self._free_ns = begins_ns + round(size * 8 * 1_000 / self._how.rate_mbit)
        return self._free_ns

    def _by_trace(self, trace: Opportunities, size: int, now_ns: int) -> int | None:
        turn, room = self._turn, self._room
        if trace.time_ns(turn) + self._begins_ns < now_ns:
            turn, room = trace.first(now_ns - self._begins_ns), PACKET_BYTES
        while size > room:
            size -= room
            turn, room = turn + 1, PACKET_BYTES
        leaves_ns = trace.time_ns(turn) + self._begins_ns
        if leaves_ns - now_ns > self._how.queue_ms * MS:
            return None
        self._turn, self._room = turn, room - size
        return leaves_ns
