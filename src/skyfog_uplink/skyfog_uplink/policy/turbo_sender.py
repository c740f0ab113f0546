"""TURBO's sender as published (NINeS 2026; code NetSys/turbo): a peer to measure against.

Published: a QUIC stream a service under BBR; the newest frame goes first; what has begun is not cut, and goes on to its
end whoever still waits; no rate is enforced in the send loop; a junk service of up to 25 Mbit/s fills what is left, so
that BBR sees the link; the client waits 200 ms at an SLO of 150 ms; the plan's B is CWND/RTT, the RTT that of pings.

Given the benefit of the doubt where the paper is silent: streams take turns chunk by chunk, junk goes only while no
frame waits, a frame that nobody waits for any more is dropped before its first byte, the time-out grows with the SLO
of other services, BBR never stops to see the round trip anew, no packet is lost to a full buffer, and a plan without a
grant ends nothing that waits. `believes` says what is planned with: CWND/RTT as published, which is up to twice what
BBR measured (its window gain), or the bandwidth itself, which did worse on every recorded trace. `junk_bps` is how much
junk there is at most: 25 Mbit/s fill a slow link and its queue, so a comparison takes the better of much and little.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import Literal

from skyfog_core.errors import Status
from skyfog_core.units import MS, S
from skyfog_core.wire.uplink import Ack, Answer
from skyfog_uplink.policy.bbr import Bbr
from skyfog_uplink.policy.frames import Action, Ended, Frame, Outcome, SendChunk, SendPing
from skyfog_uplink.policy.link import LEVELS, RTT_LEVELS, LinkState, down
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.plan import Plan

TIME_OUT = 200 / 150  # of the SLO
JUNK_BPS = 25e6
PING_NS = 100 * MS
CHUNK_MS = 2.0  # of the link, a turn of a stream
CHUNK_BYTES = (1_200, 8_192)


@dataclass(frozen=True, slots=True)
class SendJunk(SendPing):
    """Bytes that nobody wants; acknowledged like a ping."""

    size: int = 0


@dataclass(slots=True)
class _Sending:
    frame: Frame
    until_ns: int
    sent: int = 0
    is_over: bool = False


class TurboSender:
    """Has the interface of shape.Shaper. Pure."""

    def __init__(
        self, table: Table, believes: Literal["window", "bandwidth"] = "window", junk_bps: float = JUNK_BPS
    ) -> None:
        self._believes, self._junk_bps = believes, junk_bps
        self._slo_ns = {service.name: round(service.slo_ms * MS) for service in table.services}
        self._streams: dict[str, list[_Sending]] = {service.name: [] for service in table.services}  # oldest first
        self._running: dict[str, _Sending] = {}
        self._turns = deque(service.name for service in table.services)
        self._open: dict[int, _Sending] = {}
        self._ends: list[tuple[int, int]] = []
        self._bbr = Bbr()
        self._seq = 0
        self._connected = False
        self._pings: dict[int, int] = {}
        self._pinged_ns: int | None = None
        self._rtt_ms = 0.0
        self._paced_ns = self._junk_ns = 0  # nothing before

    def on_plan(self, plan: Plan, now_ns: int) -> list[Action]:
        """It says in which option frames are made; here it limits nothing."""
        return []

    def on_frame(self, frame: Frame, now_ns: int) -> list[Action]:
        until_ns = frame.captured_ns + round(TIME_OUT * self._slo_ns[frame.service])
        sending = self._open[frame.id] = _Sending(frame, until_ns)
        self._streams[frame.service].append(sending)
        heapq.heappush(self._ends, (until_ns, frame.id))
        return self._pump(now_ns)

    def on_ack(self, ack: Ack, now_ns: int) -> list[Action]:
        sent_ns = self._pings.pop(ack.seq, None)
        if sent_ns is None:
            self._bbr.on_ack(ack.seq, now_ns)
        else:
            took_ms = (now_ns - sent_ns) / MS
            self._rtt_ms = took_ms if not self._rtt_ms else self._rtt_ms + (took_ms - self._rtt_ms) / 8
        return self._pump(now_ns)

    def on_answer(self, answer: Answer, now_ns: int) -> list[Action]:
        sending = self._open.get(answer.frame)
        if sending is None:
            return []
        late = now_ns > sending.frame.deadline_ns or answer.status is not Status.OK
        return [self._end(sending, Outcome.LATE if late else Outcome.ON_TIME, answer.status, now_ns)]

    def on_unsent(self, seq: int, now_ns: int) -> list[Action]:
        """QUIC would send it again."""
        return []

    def on_connected(self, now_ns: int) -> list[Action]:
        self._connected = True
        return self._pump(now_ns)

    def on_disconnected(self, now_ns: int) -> list[Action]:
        """The streams are gone with it."""
        self._connected = False
        self._bbr.forget()
        self._pings.clear()
        outcomes = [(one, Outcome.OUTAGE if one.sent else Outcome.WITHHELD) for one in self._open.values()]
        return [self._end(one, outcome, Status.OUTCOME_UNKNOWN, None) for one, outcome in outcomes]

    def on_timer(self, now_ns: int) -> list[Action]:
        return self._pump(now_ns)

    def next_timer_ns(self) -> int | None:
        if not self._connected:
            return None
        ends_ns = self._ends[0][0] if self._ends else self._next_ping_ns()
        if self._bbr.in_flight >= self._bbr.window:  # an acknowledgement comes before
            return min(ends_ns, self._next_ping_ns())
        due_ns = min(ends_ns, self._next_ping_ns())
        if self._waiting():
            return min(due_ns, self._paced_ns)
        return min(due_ns, max(self._paced_ns, self._junk_ns)) if self._junk_bps else due_ns

    def link(self, now_ns: int) -> LinkState:
        """One number for the rate, one for the round trip."""
        if not self._connected or not self._rtt_ms or not self._bbr.bandwidth:
            return down(now_ns)
        rtt_min_ms = (self._bbr.rtt_min_ns or 0) / MS
        bps = 8e3 * self._bbr.window / self._rtt_ms if self._believes == "window" else 8 * S * self._bbr.bandwidth
        return LinkState(
            now_ns, True, (bps,) * len(LEVELS), (self._rtt_ms,) * len(RTT_LEVELS), self._rtt_ms, rtt_min_ms
        )

    def check(self) -> None:
        """Raise if a frame is lost."""
        queued = {id(one) for stream in self._streams.values() for one in stream}
        assert all(one.sent or id(one) in queued for one in self._open.values())
        assert all(one.sent < one.frame.size for one in self._running.values())

    def _end(self, sending: _Sending, outcome: Outcome, status: Status, now_ns: int | None) -> Ended:
        frame = sending.frame
        del self._open[frame.id]
        if sending in self._streams[frame.service]:
            self._streams[frame.service].remove(sending)
        if self._running.get(frame.service) is sending:
            del self._running[frame.service]
        return Ended(frame, outcome, status, now_ns)

    def _time_out(self, now_ns: int, out: list[Action]) -> None:
        while self._ends and self._ends[0][0] <= now_ns:
            sending = self._open.get(heapq.heappop(self._ends)[1])
            if sending is None:
                continue
            sending.is_over = True
            if not sending.sent:
                out.append(self._end(sending, Outcome.WITHHELD, Status.NOT_EXECUTED, None))
            elif sending.sent == sending.frame.size:
                out.append(self._end(sending, Outcome.LATE, Status.DEADLINE_EXCEEDED, None))

    def _waiting(self) -> bool:
        return bool(self._running) or any(self._streams.values())

    def _next_ping_ns(self) -> int:
        return 0 if self._pinged_ns is None else self._pinged_ns + PING_NS

    def _pump(self, now_ns: int) -> list[Action]:
        out: list[Action] = []
        self._time_out(now_ns, out)
        if not self._connected:
            return out
        if now_ns >= self._next_ping_ns():
            self._pinged_ns, self._pings[self._seq] = now_ns, now_ns
            if len(self._pings) > 1_000:
                del self._pings[next(iter(self._pings))]
            out.append(SendPing(self._take_seq()))
        while self._bbr.in_flight < self._bbr.window and now_ns >= self._paced_ns:
            low, high = CHUNK_BYTES
            chunk = min(high, max(low, int(self._bbr.bandwidth * CHUNK_MS * MS)))
            sending = self._next()
            if sending is not None:
                self._send(sending, chunk, now_ns, out)
            elif self._junk_bps and now_ns >= self._junk_ns:
                self._junk_ns = max(self._junk_ns, now_ns - 10 * MS) + int(8 * chunk / self._junk_bps * S)
                self._account(chunk, now_ns)
                out.append(SendJunk(self._take_seq(), chunk))
            else:
                break
        return out

    def _next(self) -> _Sending | None:
        """Of the next stream in turn that has something: what it has begun, else its newest frame."""
        for _ in range(len(self._turns)):
            service = self._turns[0]
            self._turns.rotate(-1)
            if service in self._running:
                return self._running[service]
            if self._streams[service]:
                sending = self._running[service] = self._streams[service].pop()
                return sending
        return None

    def _send(self, sending: _Sending, chunk: int, now_ns: int, out: list[Action]) -> None:
        frame = sending.frame
        size = min(chunk, frame.size - sending.sent)
        budget_ms = max(1, (sending.until_ns - now_ns) // MS)
        self._account(size, now_ns)
        seq = self._take_seq()
        out.append(SendChunk(frame.id, frame.service, seq, sending.sent, size, frame.size, budget_ms, False))
        sending.sent += size
        if sending.sent == frame.size:
            del self._running[frame.service]
            if sending.is_over:
                out.append(self._end(sending, Outcome.LATE, Status.DEADLINE_EXCEEDED, None))

    def _account(self, size: int, now_ns: int) -> None:
        # Limited by what is to be sent only where even junk does not fill the window.
        self._bbr.on_sent(self._seq, size, now_ns, app_limited=8 * S * self._bbr.bandwidth > 0.9 * self._junk_bps)
        if self._bbr.pace > 0:
            self._paced_ns = max(self._paced_ns, now_ns) + int(size / self._bbr.pace)

    def _take_seq(self) -> int:
        self._seq += 1
        return self._seq - 1
