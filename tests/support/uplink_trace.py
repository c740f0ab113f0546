"""A thin link that follows a trace, and a simple sender over it, for tests of the estimator alone."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from skyfog_core.units import MS, US, S
from skyfog_uplink.policy.estimate import LinkEstimator

PACKET = 1_500


def read(path: Path) -> list[int]:
    """Milliseconds at which a packet of 1500 bytes could leave."""
    return [int(line) for line in path.read_text().split()]


def constant(mbps: float, seconds: int = 60) -> list[int]:
    """The same for a link that does not change."""
    return [round(at * 8 * PACKET / (mbps * 1e3)) for at in range(1, int(seconds * mbps * 1e6 / 8 / PACKET) + 1)]


class TraceLink:
    """FIFO; packets leave at the trace's opportunities, which begin anew at its end."""

    def __init__(self, chances_ms: list[int]) -> None:
        self._chances = chances_ms
        self._period = max(chances_ms[-1], 1)
        self._next = 0  # opportunity, counted over all rounds
        self._left = 0  # bytes of the one before it
        self._left_at = -1.0  # its ms

    def deliver_ns(self, size: int, at_ns: int) -> int:
        """When a message that is put on the link at `at_ns` is through."""
        first = self._until(at_ns)
        if first > self._next or self._left_at < at_ns / MS:
            self._left = 0  # what was not used is gone
        self._next = max(self._next, first)
        if size > self._left:
            packets = -(-(size - self._left) // PACKET)
            self._next += packets
            self._left += packets * PACKET
            rounds, at = divmod(self._next - 1, len(self._chances))
            self._left_at = rounds * self._period + self._chances[at]
        self._left -= size
        return max(int(self._left_at * MS), at_ns)

    def bps(self, begin_ns: int, end_ns: int) -> float:
        """What the trace offers in between."""
        return 8 * PACKET * (self._until(end_ns) - self._until(begin_ns)) / ((end_ns - begin_ns) / S)

    def _until(self, at_ns: int) -> int:
        rounds, within = divmod(at_ns / MS, self._period)
        return int(rounds) * len(self._chances) + bisect_left(self._chances, within)


@dataclass
class Drive:
    """Frames at a fixed rate over a link; the newest waits alone, and no more is in flight than the estimate allows."""

    link: TraceLink
    estimator: LinkEstimator
    frame_bytes: int
    every_ns: int = 100 * MS
    chunk: int = 8_192
    rtt_ns: int = 30 * MS
    jitter_ns: int = 0
    offset_ns: int = 0
    drift: float = 0.0
    seed: int = 1
    watch: Callable[[int, bool], None] = lambda _now, _sent: None  # after each event; whether a chunk was sent
    _heap: list[tuple[int, int, Callable[[int], None]]] = field(default_factory=list)
    _order: int = 0
    _seq: int = 0
    _waiting: int = 0  # bytes of the frame that is being sent
    _last_ns: int = 0

    def run(self, seconds: float) -> None:
        """Raises nothing; the estimator's check() holds at the end."""
        self._random = random.Random(self.seed)
        self.estimator.on_connected(0)
        self._at(0, self._frame)
        self._at(0, self._tick)
        while self._heap and self._heap[0][0] < seconds * S:
            now_ns, _, call = heapq.heappop(self._heap)
            before = self._seq
            call(now_ns)
            self.watch(now_ns, self._seq > before)
        self.estimator.check()

    def _at(self, when_ns: int, call: Callable[[int], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when_ns, self._order, call))

    def _frame(self, now_ns: int) -> None:
        self._waiting = self.frame_bytes
        self._pump(now_ns)
        self._at(now_ns + self.every_ns, self._frame)

    def _tick(self, now_ns: int) -> None:
        self.estimator.on_timer(now_ns)
        if self.estimator.ping_due(now_ns):
            self._send(40, now_ns)
        self._at(now_ns + 5 * MS, self._tick)

    def _pump(self, now_ns: int) -> None:
        while self._waiting:
            link = self.estimator.state(now_ns)
            window = self.chunk + 1.5 * link.rates_bps[6] / 8 * link.rtt_ms / 1e3
            if not link.up or link.in_flight_bytes > window:
                return
            size = min(self._waiting, self.chunk)
            self._waiting -= size
            self._send(size, now_ns)

    def _send(self, size: int, now_ns: int) -> None:
        seq, self._seq = self._seq, self._seq + 1
        self.estimator.on_sent(seq, size, now_ns)
        through_ns = self.link.deliver_ns(size, now_ns)
        received_ns = max(through_ns + self.rtt_ns // 2 + self._jitter(), self._last_ns)  # in order, as tcp
        self._last_ns = received_ns
        stamp_us = int((received_ns * (1 + self.drift) + self.offset_ns) / US)

        def acknowledged(at_ns: int) -> None:
            self.estimator.on_ack(seq, stamp_us, at_ns)
            self._pump(at_ns)

        self._at(received_ns + self.rtt_ns // 2 + self._jitter(), acknowledged)

    def _jitter(self) -> int:
        return int(self._random.expovariate(1) * self.jitter_ns) if self.jitter_ns else 0
