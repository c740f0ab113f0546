"""A simple sender over a modelled link, for tests of the estimator alone."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from skyfog_core.units import MS, US, S
from skyfog_sim.uplink_link import Bottleneck, Course, Downlink, Rtt, fixed_rtt
from skyfog_uplink.policy.estimate import LinkEstimator
from skyfog_uplink.policy.link import LEVELS

MEDIAN = LEVELS.index(0.5)
PING_BYTES = 40


@dataclass
class Sender:
    """A frame every so often over a link; the newest alone waits, and as much is in flight as the estimate allows.

    `watch` is called after each event, with whether a chunk was sent. The gateway's clock is `offset_ns` ahead of the
    car's and goes `drift` faster.
    """

    course: Course
    estimator: LinkEstimator
    frame_bytes: int
    every_ns: int = 100 * MS
    chunk_bytes: int = 8_192
    rtt: Rtt = field(default_factory=lambda: fixed_rtt(30.0))
    offset_ns: int = 0
    drift: float = 0.0
    watch: Callable[[int, bool], None] = lambda _now, _sent: None
    now_ns: int = 0
    chunks: int = 0
    _seq: int = 0
    _waiting: int = 0  # bytes of the frame that is not sent yet
    _heap: list[tuple[int, int, Callable[[int], None]]] = field(default_factory=list)
    _order: int = 0

    def __post_init__(self) -> None:
        self._up, self._down = Bottleneck(self.course, self.rtt), Downlink(self.rtt)
        self.estimator.on_connected(0)
        self._at(0, self._frame)
        self._at(0, self._tick)

    def run(self, until_s: float) -> Sender:
        """Up to there; may be called again."""
        while self._heap[0][0] < until_s * S:
            self.now_ns, _, call = heapq.heappop(self._heap)
            before = self.chunks
            call(self.now_ns)
            self.watch(self.now_ns, self.chunks > before)
        self.now_ns = int(until_s * S)
        self.estimator.check()
        return self

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
            self._send(PING_BYTES, now_ns)
        self._at(now_ns + 5 * MS, self._tick)

    def _pump(self, now_ns: int) -> None:
        while self._waiting:
            link = self.estimator.state(now_ns)
            window = self.chunk_bytes + 1.5 * link.rates_bps[MEDIAN] / 8 * link.rtt_ms / 1e3
            if not link.up or link.in_flight_bytes > window:
                return
            size = min(self._waiting, self.chunk_bytes)
            self._waiting -= size
            self.chunks += 1
            self._send(size, now_ns)

    def _send(self, size: int, now_ns: int) -> None:
        seq, self._seq = self._seq, self._seq + 1
        self.estimator.on_sent(seq, size, now_ns)
        came_ns = self._up.carry(size, now_ns)
        if came_ns is None:
            return
        stamp_us = int(came_ns * (1 + self.drift) + self.offset_ns) // US

        def acknowledged(at_ns: int) -> None:
            self.estimator.on_ack(seq, stamp_us, at_ns)
            self._pump(at_ns)

        self._at(self._down.carry(came_ns), acknowledged)
