"""The link as its acknowledgements tell it: rate to come, round trips, queue, loss, outages.

    sent, acknowledged -> ClockBounds    how the gateway's clock stands to ours: when each message was through
                       -> Capacity       bytes over the time that the link was busy, on three time scales
                       -> RateForecast   quantiles of the rate to come, learnt from what came after moments like this
                       -> RttForecast    the same of the round trip of messages that meet no queue of ours

What is not yet acknowledged tells as much: the link has worked on the oldest such message since the one before it was
through. Where that is longer than the rate explains, the rate is less, at once (`_overdue`). Where it lasts longer than
`outage_rtts` round trips and `outage_ms`, the link counts as gone until the next acknowledgement.

A message counts for the capacity where it surely stood behind the one before it: sent with it, or arrived before that
one was through however long its way was. Jitter is no queue: else a sender that waits for its own pace would take that
for the link's. Of a message that met an idle link, its way's delay and its service cannot be told apart: it counts
for what should be the greater part.

Garbage (unknown or repeated numbers, times that no clock explains) is counted in `ignored` and changes nothing else.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter, deque
from dataclasses import replace

from skyfog_core.config.uplink import EstimatorConfig
from skyfog_core.units import MS, US, S
from skyfog_uplink.policy.capacity import Capacity
from skyfog_uplink.policy.clocks import ClockBounds
from skyfog_uplink.policy.forecast import Features, RateForecast, RttForecast, features_of
from skyfog_uplink.policy.link import RTT_LEVELS, LinkState, down

MAX_OPEN = 8_192  # messages not acknowledged; older ones count as lost
MAX_RECEIVED_US = 2**62
REORDER = 3  # a message counts as lost when one so many later is acknowledged (RFC 9002, section 6.1.1)
SMALL_BYTES = 256  # a message that takes no time of its own on the link
TOGETHER_NS = MS // 5  # messages sent within it stand behind one another on any link below 300 Mbit/s
WAYS = 128  # delays of the way up that are remembered
LONE_NS = 250 * MS  # without a small message that met no queue for so long, others stand in
FIRST_RTT_MS = 100.0
LONGEST_RTT_MS = 2_000.0  # that an outage is judged by
LOSS_SHARE = 1 / 128  # weight of one message in the share of lost ones
DELIVERED_NS = 500 * MS  # time constant of the rate delivered
OUTAGE_PING_NS = 250 * MS  # in an outage pings pile up before the bottleneck
BACK_NS = S  # a clock that goes back by less is taken to stand still
SLOW = 3.0  # a chunk that takes so many times what it should is told at once
SAME_RTT_MS, SAME_RTT = 1.5, 0.05  # a smaller change is not told: plans are made anew for it
USUAL, MOST = 0, RTT_LEVELS.index(0.9)


class Ways:
    """How much longer than the least the last so many small messages took on their way up."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []
        self.usual_ns = self.most_ns = 0  # median and 0.9

    def add(self, took_ns: int) -> None:
        """One more."""
        if len(self._recent) == WAYS:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(took_ns)
        insort(self._sorted, took_ns)
        self.usual_ns = self._sorted[len(self._sorted) // 2]
        self.most_ns = self._sorted[len(self._sorted) * 9 // 10]


class LinkEstimator:
    """Pure; one for a car's link. Times are the car's steady clock unless they are named received."""

    def __init__(self, config: EstimatorConfig) -> None:
        self.config = config
        self._clocks = ClockBounds(config.window_ms * MS)
        self._capacity = Capacity(config.window_ms * MS)
        self._rates = RateForecast(config.sample_ms * MS)
        self._trips = RttForecast()
        self._ways = Ways()
        self._rtts_ms: tuple[float, ...] | None = None  # made when asked for
        self._patient_ns = 0  # with them
        self._told_ms = (-FIRST_RTT_MS,) * len(RTT_LEVELS)  # none yet
        self._smoothed_ms: float | None = None
        self._tripped_ns = 0  # when the last round trip was learnt
        self._open: dict[int, tuple[int, int, bool, bool]] = {}  # by seq: sent, bytes, alone, together with the last
        self._in_flight = 0
        self._last_seq = -1
        self._now_ns = 0
        self._connected = False
        self._heard_ns: int | None = None  # last acknowledgement of this connection
        self._sent_ns: int | None = None
        self._through_ns: int | None = None  # received time of the last message
        self._waited_ns = 0  # of the last acknowledged message behind ours
        self._queues: deque[tuple[int, int]] = deque(maxlen=8)
        self._delivered = (0, 0.0)  # when, decayed bits
        self._loss = 0.0
        self._out = False
        self._slow_seq = -1  # told to be slow
        self._slow_due = (-1, 0)  # which message will be slow when
        self.sent = self.acknowledged = self.lost = 0
        self.ignored: Counter[str] = Counter()

    # -- events

    def on_connected(self, now_ns: int) -> None:
        """A gateway is there; whether the link carries is said by the first acknowledgement."""
        self._see(now_ns)
        self._forget_open()
        self._forget_clocks()
        self._connected, self._heard_ns, self._sent_ns, self._out = True, None, None, False

    def on_disconnected(self, now_ns: int) -> None:
        """What is under way is lost."""
        self._see(now_ns)
        self._forget_open()
        self._connected, self._heard_ns = False, None

    def on_sent(self, seq: int, size: int, now_ns: int) -> None:
        """A message that is to be acknowledged has been put on the link; size in bytes."""
        now_ns = self._see(now_ns)
        if not (seq > self._last_seq and size >= 0):
            self.ignored["sent"] += 1
            return
        together = self._sent_ns is not None and now_ns - self._sent_ns < TOGETHER_NS
        self._last_seq, self._sent_ns = seq, now_ns
        if size > SMALL_BYTES and self._capacity.known and self._rates.wants(now_ns):
            self._rates.on_asked(*self._moment(now_ns), now_ns)
        self._open[seq] = (now_ns, size, not self._open, together)
        self._in_flight += size
        self.sent += 1
        if len(self._open) > MAX_OPEN:
            self._lose(next(iter(self._open)))

    def on_ack(self, seq: int, received_us: int, now_ns: int) -> None:
        """The gateway has had `seq` at its own `received_us`."""
        now_ns = self._see(now_ns)
        found = self._open.get(seq)
        if found is None or not 0 <= received_us < MAX_RECEIVED_US:
            self.ignored["ack" if found is None else "received"] += 1
            return
        sent_ns, size, alone, together = found
        while (oldest := next(iter(self._open))) <= seq - REORDER:
            self._lose(oldest)
        del self._open[seq]
        self._in_flight -= size
        self.acknowledged += 1
        self._heard_ns = now_ns
        self._loss -= self._loss * LOSS_SHARE
        self._deliver(size, now_ns)
        received_ns = received_us * US
        if not self._clocks.fit(received_ns - now_ns, received_ns - sent_ns):
            self.ignored["jump"] += 1
            self._forget_clocks()
        self._clocks.add(received_ns - now_ns, received_ns - sent_ns, now_ns)
        self._trips.on_ack(self._clocks.lower_ns + now_ns - received_ns, now_ns)
        self._rtts_ms = None
        self._measure(sent_ns, size, received_ns, now_ns, alone, together)

    def on_timer(self, now_ns: int) -> bool:
        """Whether the state has stepped: an outage began, or a chunk takes far too long."""
        now_ns = self._see(now_ns)
        was, self._out = self._out, self._silent(now_ns)
        slow_ns = self._slow_at_ns()
        slow = slow_ns is not None and now_ns >= slow_ns
        if slow:
            self._slow_seq = next(iter(self._open))
        return slow or (self._out and not was)

    def next_timer_ns(self) -> int | None:
        """When what is awaited becomes slow, or an outage; None where nothing is awaited."""
        if not self._open or self._out:
            return None
        out_ns = self._awaited_since_ns() + self._patience_ns() + 1
        slow_ns = self._slow_at_ns()
        return out_ns if slow_ns is None else min(out_ns, slow_ns)

    def ping_due(self, now_ns: int) -> bool:
        """Whether a ping should be sent."""
        now_ns = self._see(now_ns)
        if not self._connected:
            return False
        if self._sent_ns is None:
            return True
        every_ns = self.config.ping_ms * MS
        if self._open:
            every_ns = max(every_ns, min(OUTAGE_PING_NS, (now_ns - self._awaited_since_ns()) // 4))
        return now_ns - self._sent_ns >= every_ns

    # -- what is known

    def state(self, now_ns: int) -> LinkState:
        """The link as of now."""
        at_ns = self._see(now_ns)
        if not self._connected or self._heard_ns is None or self._silent(at_ns):
            return replace(down(now_ns), in_flight_bytes=self._in_flight, loss=self._loss)
        rtts_ms = self._round_trips_ms()
        queue_ms = self._queue_ms(at_ns)
        return LinkState(
            now_ns,
            True,
            self._rates.quantiles(*self._moment(at_ns)),
            rtts_ms,
            rtts_ms[USUAL] if self._smoothed_ms is None else self._smoothed_ms,
            self._clocks.least_trip_ns / MS,
            queue_ms,
            self._growth(at_ns, queue_ms),
            self._loss,
            self._delivered_bps(at_ns),
            self._in_flight,
        )

    def check(self) -> None:
        """Raise if the books do not balance."""
        assert self.sent == self.acknowledged + self.lost + len(self._open)
        assert self._in_flight == sum(size for _, size, _, _ in self._open.values())
        assert len(self._open) <= MAX_OPEN

    # -- what an acknowledgement says

    def _measure(self, sent_ns: int, size: int, received_ns: int, now_ns: int, alone: bool, together: bool) -> None:
        end_ns = received_ns - self._clocks.upper_ns  # as if the way took no time
        before_ns = None if self._through_ns is None else self._through_ns - self._clocks.upper_ns
        self._through_ns = received_ns if self._through_ns is None else max(self._through_ns, received_ns)
        self._waited_ns = 0
        doubt_ns = max(self._ways.most_ns, self._trips.late_ns)
        if before_ns is not None and (together or sent_ns + doubt_ns < before_ns):
            self._waited_ns = max(before_ns - sent_ns - self._ways.usual_ns, 0)
            self._capacity.add(before_ns, max(end_ns, before_ns), size)
            if now_ns - self._tripped_ns >= LONE_NS:
                self._trip(2 * (self._clocks.lower_ns + now_ns - received_ns), now_ns)
        elif size > SMALL_BYTES:
            self._measure_first(sent_ns, before_ns or 0, end_ns, size)
        elif alone:  # not one of those that are sent because the link stands still
            self._ways.add(end_ns - sent_ns)
            self._trip(now_ns - sent_ns - self._clocks.least_trip_ns, now_ns)
        if not self._queues or now_ns - self._queues[-1][0] >= self.config.sample_ms * MS // 2:
            self._queues.append((now_ns, self._waited_ns))
        self._rates.on_progress(self._capacity, now_ns)

    def _measure_first(self, sent_ns: int, before_ns: int, end_ns: int, size: int) -> None:
        """A chunk that met an idle link: its time is the way's and its own; it counts where the latter is more.

        Of the way's usual delay half is taken off: all of it where that is jitter, none where it is the wait for a
        cellular scheduler's next slot, which the chunk's own rate has in it too.
        """
        service_ns = 8 * size / self._capacity.rates(end_ns, 0.0, 0.0)[1] * S
        if service_ns > self._ways.most_ns - self._ways.usual_ns:
            begin_ns = max(sent_ns + self._ways.usual_ns // 2, before_ns)
            self._capacity.add(min(begin_ns, end_ns), end_ns, size)

    def _trip(self, above_ns: int, now_ns: int) -> None:
        """A round trip without a queue took so much more than the least."""
        self._tripped_ns = now_ns
        self._trips.on_round_trip(max(above_ns, 0), now_ns)
        took_ms = (above_ns + self._clocks.least_trip_ns) / MS
        mean_ms = took_ms if self._smoothed_ms is None else self._smoothed_ms
        self._smoothed_ms = mean_ms + (min(took_ms, 3 * mean_ms) - mean_ms) / 8

    # -- what silence says

    def _head(self) -> tuple[int, int, int]:
        """The oldest message in flight: since when the link works on it (as if the way took no time), bytes, seq."""
        seq, (sent_ns, size, _, _) = next(iter(self._open.items()))
        through_ns = sent_ns if self._through_ns is None else self._through_ns - self._clocks.upper_ns
        return max(sent_ns, through_ns), size, seq

    def _overdue(self, now_ns: int) -> tuple[float, float]:
        """Bits of the oldest message in flight, and seconds that the link has surely worked on it."""
        if not self._open:
            return 0.0, 0.0
        begin_ns, size, _ = self._head()
        return 8.0 * size, max((now_ns - begin_ns) / S - self._round_trips_ms()[MOST] / 1e3, 0.0)

    def _slow_at_ns(self) -> int | None:
        """When the oldest chunk in flight has taken far too long; None where there is none, or it has been told."""
        if not self._open:
            return None
        begin_ns, size, seq = self._head()
        if size <= SMALL_BYTES or seq == self._slow_seq:
            return None
        if self._slow_due[0] != seq:
            service_ns = 8 * size / self._capacity.rates(begin_ns, 0.0, 0.0)[0] * S
            late_ns = int(self._round_trips_ms()[MOST] * MS + SLOW * service_ns) + 1
            self._slow_due = (seq, begin_ns + late_ns)
        return self._slow_due[1]

    def _awaited_since_ns(self) -> int:
        sent_ns, _, _, _ = next(iter(self._open.values()))
        return sent_ns if self._heard_ns is None else max(sent_ns, self._heard_ns)

    def _patience_ns(self) -> int:
        self._round_trips_ms()
        return self._patient_ns

    def _silent(self, now_ns: int) -> bool:
        return bool(self._open) and now_ns - self._awaited_since_ns() > self._patience_ns()

    # -- figures

    def _moment(self, now_ns: int) -> tuple[Features, float]:
        rates = self._capacity.rates(now_ns, *self._overdue(now_ns))
        return features_of(rates, self._capacity.weight_s(now_ns)), rates[0]

    def _round_trips_ms(self) -> tuple[float, ...]:
        if self._rtts_ms is None:
            least_ms = self._clocks.least_trip_ns / MS if self._clocks.known else FIRST_RTT_MS
            found = [least_ms + above for above in self._trips.above_ms()]
            near = all(abs(a - b) <= max(SAME_RTT_MS, SAME_RTT * b) for a, b in zip(found, self._told_ms, strict=True))
            self._rtts_ms = self._told_ms = self._told_ms if near else tuple(found)
            usual_ms = min(self._rtts_ms[USUAL], LONGEST_RTT_MS)
            self._patient_ns = int(max(self.config.outage_rtts * usual_ms, self.config.outage_ms) * MS)
        return self._rtts_ms

    def _queue_ms(self, now_ns: int) -> float:
        if not self._open:
            return 0.0
        sent_ns, _, _, _ = next(iter(self._open.values()))
        return max(self._waited_ns / MS, (now_ns - sent_ns) / MS - self._round_trips_ms()[MOST], 0.0)

    def _growth(self, now_ns: int, queue_ms: float) -> float:
        for at_ns, waited_ns in self._queues:
            if 0 < now_ns - at_ns <= 4 * self.config.sample_ms * MS:
                return (queue_ms - waited_ns / MS) / ((now_ns - at_ns) / S)
        return 0.0

    def _deliver(self, size: int, now_ns: int) -> None:
        at_ns, bits = self._delivered
        self._delivered = (now_ns, bits * math.exp((at_ns - now_ns) / DELIVERED_NS) + 8.0 * size)

    def _delivered_bps(self, now_ns: int) -> float:
        at_ns, bits = self._delivered
        return bits * math.exp((at_ns - now_ns) / DELIVERED_NS) / (DELIVERED_NS / S)

    # -- what is forgotten

    def _lose(self, seq: int) -> None:
        self._in_flight -= self._open.pop(seq)[1]
        self.lost += 1
        self._loss += (1 - self._loss) * LOSS_SHARE

    def _forget_open(self) -> None:
        while self._open:
            self._lose(next(iter(self._open)))

    def _forget_clocks(self) -> None:
        self._clocks.clear()
        self._trips.forget()
        self._rtts_ms = self._through_ns = None

    def _see(self, now_ns: int) -> int:
        """Time that does not go back. Where the clock does, what is under way cannot be timed any more."""
        back_ns = self._now_ns - now_ns
        if back_ns <= 0:
            self._now_ns = now_ns
        elif back_ns > BACK_NS:
            self.ignored["clock"] += 1
            self._now_ns = now_ns
            self._forget_open()
            self._forget_clocks()
            self._rates.forget_asked()
            self._capacity.move(-back_ns)
            self._queues.clear()
            self._delivered = (now_ns, self._delivered[1])
            self._tripped_ns = now_ns
            self._sent_ns = None if self._sent_ns is None else now_ns
            self._heard_ns = None if self._heard_ns is None else now_ns
        return self._now_ns
