"""BBR (Cardwell et al., CACM 60(2), 2017; version 1, as quiche has it), as much as a sender of few flows feels of it.

Bandwidth is the greatest rate of delivery of the last ten round trips; sending is paced at bandwidth times a gain, and
at most twice bandwidth times the least round trip is in flight. STARTUP doubles until three rounds bring no quarter
more, DRAIN empties the queue that this built, PROBE cycles through the gains. Left out, to its advantage: that the
least round trip is forgotten after ten seconds, and PROBE_RTT, which then stops sending for 200 ms to see it anew.
"""

from __future__ import annotations

from collections import deque

from skyfog_core.units import MS

STARTUP_GAIN = 2.885
CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
WINDOW_GAIN = 2.0
ROUNDS = 10
LEAST_WINDOW = 4 * 1_200  # bytes
FIRST_WINDOW = 32 * 1_200
FULL_ROUNDS = 3


class Bbr:
    """Told of what is sent and acknowledged. Bytes and ns; rates in bytes a ns."""

    def __init__(self) -> None:
        self._sent: dict[int, tuple[int, int, int, int, bool]] = {}  # by seq: ns, bytes, delivered, when, app-limited
        self._samples: deque[tuple[int, float]] = deque()  # by round, falling: the maximum is the first
        self.rtt_min_ns: int | None = None
        self._delivered = 0
        self._delivered_ns = 0
        self._round = self._round_ends_at = 0
        self._state = "startup"
        self._full, self._full_rounds = 0.0, 0
        self._phase, self._phase_ns = 0, 0
        self.in_flight = 0

    def on_sent(self, seq: int, size: int, now_ns: int, app_limited: bool) -> None:
        if not self.in_flight:
            self._delivered_ns = now_ns
        self._sent[seq] = (now_ns, size, self._delivered, self._delivered_ns, app_limited)
        self.in_flight += size

    def on_ack(self, seq: int, now_ns: int) -> None:
        found = self._sent.pop(seq, None)
        if found is None:
            return
        sent_ns, size, delivered, delivered_ns, app_limited = found
        self.in_flight -= size
        self._delivered += size
        self._delivered_ns = now_ns
        took_ns = max(1, now_ns - sent_ns)
        self.rtt_min_ns = took_ns if self.rtt_min_ns is None else min(self.rtt_min_ns, took_ns)
        begins = delivered >= self._round_ends_at
        if begins:
            self._round += 1
            self._round_ends_at = self._delivered
        # Over the longer of the times in which they were sent and acknowledged.
        rate = (self._delivered - delivered) / max(1, now_ns - delivered_ns)
        if not app_limited or rate > self.bandwidth:
            self._see_rate(rate)
        self._step(begins, app_limited, now_ns)

    def forget(self) -> None:
        """The connection is another one; what is known of the path stays."""
        self._sent.clear()
        self.in_flight = 0

    @property
    def bandwidth(self) -> float:
        return self._samples[0][1] if self._samples else 0.0

    @property
    def window(self) -> int:
        """Bytes in flight at most."""
        if self._state == "startup" or self.rtt_min_ns is None:
            return max(FIRST_WINDOW, int(STARTUP_GAIN * self.bandwidth * (self.rtt_min_ns or 0)))
        return max(LEAST_WINDOW, int(WINDOW_GAIN * self.bandwidth * self.rtt_min_ns))

    @property
    def pace(self) -> float:
        """Bytes a ns; 0: not known yet, as the window allows."""
        gain = {"startup": STARTUP_GAIN, "drain": 1 / STARTUP_GAIN}.get(self._state, CYCLE[self._phase])
        return gain * self.bandwidth

    def _see_rate(self, rate: float) -> None:
        while self._samples and self._samples[-1][1] <= rate:
            self._samples.pop()
        self._samples.append((self._round, rate))
        while self._samples[0][0] <= self._round - ROUNDS:
            self._samples.popleft()

    def _step(self, begins: bool, app_limited: bool, now_ns: int) -> None:
        if self._state == "startup" and begins and not app_limited:
            if self.bandwidth >= 1.25 * self._full:
                self._full, self._full_rounds = self.bandwidth, 0
            else:
                self._full_rounds += 1
                if self._full_rounds >= FULL_ROUNDS:
                    self._state = "drain"
        if self._state == "drain" and self.in_flight <= self.bandwidth * (self.rtt_min_ns or 0):
            self._state, self._phase_ns = "probe", now_ns
        if self._state == "probe" and now_ns - self._phase_ns >= max(MS, self.rtt_min_ns or 0):
            self._phase, self._phase_ns = (self._phase + 1) % len(CYCLE), now_ns
