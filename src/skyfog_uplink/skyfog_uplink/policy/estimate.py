"""The link as its acknowledgements tell it: rate to come, round trips, queue, loss, outages.

    sent, acknowledged -> ClockBounds   how the gateway's clock stands to ours; when each message was through
                       -> Capacity      bytes over the time that the link was busy, on three time scales
                       -> Forecast      quantiles of the rate to come, learnt from what came after moments like this
                       -> RoundTrips    of messages that met no queue of ours

What is not yet acknowledged tells as much: the link has worked on the oldest such message since the one before it was
through; where that is longer than the rate explains, the rate is less, at once (`_overdue`). Longer than
`outage_rtts` round trips and `outage_ms`: the link counts as gone until the next acknowledgement.

Garbage (unknown or repeated numbers, times that no clock explains) is counted in `ignored` and changes nothing.
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
from skyfog_uplink.policy.forecast import Features, Forecast, features_of
from skyfog_uplink.policy.link import RTT_LEVELS, LinkState, down

MAX_OPEN = 8_192  # messages not acknowledged; older ones count as lost
REORDER = 3  # a message counts as lost when one so many later is acknowledged (RFC 9002, section 6.1.1)
SMALL_BYTES = 256  # a message that takes no time of its own on the link
ROUND_TRIPS = 256  # remembered
FIRST_RTT_NS = 100 * MS
LOSS_SHARE = 1 / 128  # weight of one message in the share of lost ones
DELIVERED_NS = 500 * MS  # time constant of the rate delivered
OUTAGE_PING_NS = 250 * MS  # in an outage pings pile up before the bottleneck


class RoundTrips:
    """Of messages that met no queue of ours: the last so many, in order of time and of length."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []
        self.smoothed_ns = 0.0

    def __len__(self) -> int:
        return len(self._recent)

    def add(self, took_ns: int) -> None:
        """One more; one that is out of proportion moves the mean no more than three times it would."""
        self.smoothed_ns += (min(took_ns, 3 * self.smoothed_ns) - self.smoothed_ns) / 8 if self._recent else took_ns
        if len(self._recent) == ROUND_TRIPS:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(took_ns)
        insort(self._sorted, took_ns)

    def quantile_ns(self, level: float) -> int:
        """The least that `level` of them do not exceed."""
        if not self._sorted:
            return FIRST_RTT_NS
        return self._sorted[math.ceil(level * len(self._sorted)) - 1]


class LinkEstimator:
    """Pure; one for a car's link. Times are the car's steady clock unless they are named received."""

    def __init__(self, config: EstimatorConfig) -> None:
        self.config = config
        self._window_ns = config.window_ms * MS
        self._clocks = ClockBounds(self._window_ns)
        self._capacity = Capacity(self._window_ns)
        self._forecast = Forecast(config.sample_ms * MS)
        self._trips = RoundTrips()
        self._ways = RoundTrips()  # up only, over the least
        self._open: dict[int, tuple[int, int, bool]] = {}  # by seq, in order: when sent, bytes, whether it was alone
        self._in_flight = 0
        self._last_seq = -1
        self._connected = False
        self._heard_ns: int | None = None  # last acknowledgement of this connection
        self._sent_ns: int | None = None
        self._through_ns: int | None = None  # received time of the last message, raw
        self._waited_ns = 0  # of the last acknowledged message behind ours
        self._queues: deque[tuple[int, int]] = deque(maxlen=32)
        self._delivered = (0, 0.0)  # when, decayed bits
        self._loss = 0.0
        self._out = False
        self.sent = self.acknowledged = self.lost = 0
        self.ignored: Counter[str] = Counter()

    # -- events

    def on_connected(self, now_ns: int) -> None:
        """A gateway is there; whether the link carries is said by the first acknowledgement."""
        self._forget_open()
        self._connected, self._heard_ns, self._sent_ns, self._out = True, None, None, False
        self._clocks.clear()
        self._through_ns = None

    def on_disconnected(self, now_ns: int) -> None:
        """What is under way is lost."""
        self._forget_open()
        self._connected, self._heard_ns = False, None

    def on_sent(self, seq: int, size: int, now_ns: int) -> None:
        """A message that is to be acknowledged has been put on the link; size in bytes."""
        if seq <= self._last_seq or size < 0:
            self.ignored["sent"] += 1
            return
        self._last_seq = seq
        self._open[seq] = (now_ns, size, not self._open)
        self._in_flight += size
        self._sent_ns = now_ns
        self.sent += 1
        if size > SMALL_BYTES and self._capacity.known:
            self._forecast.on_asked(*self._moment(now_ns), now_ns)
        if len(self._open) > MAX_OPEN:
            self._lose(next(iter(self._open)))

    def on_ack(self, seq: int, received_us: int, now_ns: int) -> None:
        """The gateway has had `seq` at its own `received_us`."""
        found = self._open.pop(seq, None)
        if found is None:
            self.ignored["ack"] += 1
            return
        sent_ns, size, alone = found
        self._in_flight -= size
        self.acknowledged += 1
        self._heard_ns = now_ns
        self._loss -= self._loss * LOSS_SHARE
        self._deliver(size, now_ns)
        while self._open and (oldest := next(iter(self._open))) <= seq - REORDER:
            self._lose(oldest)
        if now_ns < sent_ns:
            self.ignored["clock"] += 1
            return
        received_ns = received_us * US
        if not self._clocks.fit(received_ns - now_ns, received_ns - sent_ns):
            self.ignored["jump"] += 1
            self._clocks.clear()
            self._through_ns = None
        self._clocks.add(received_ns - now_ns, received_ns - sent_ns, now_ns)
        self._measure(sent_ns, size, received_ns, now_ns, alone)

    def on_timer(self, now_ns: int) -> bool:
        """Whether the state has stepped: an outage began."""
        was, self._out = self._out, self._silent(now_ns)
        return self._out and not was

    def next_timer_ns(self) -> int | None:
        """When silence becomes an outage; None where nothing is awaited."""
        since_ns = self._awaited_since_ns()
        return None if since_ns is None or self._out else since_ns + self._patience_ns() + 1

    def ping_due(self, now_ns: int) -> bool:
        """Whether a ping should be sent."""
        if not self._connected:
            return False
        if self._sent_ns is None:
            return True
        every_ns = self.config.ping_ms * MS
        since_ns = self._awaited_since_ns()
        if since_ns is not None:
            every_ns = max(every_ns, min(OUTAGE_PING_NS, (now_ns - since_ns) // 4))
        return now_ns - self._sent_ns >= every_ns

    # -- what is known

    def state(self, now_ns: int) -> LinkState:
        """The link as of now."""
        rtts = tuple(self._trips.quantile_ns(level) / MS for level in RTT_LEVELS)
        if not self._up(now_ns):
            return replace(down(now_ns), in_flight_bytes=self._in_flight, loss=self._loss)
        queue_ms = self._queue_ns(now_ns) / MS
        return LinkState(
            now_ns,
            True,
            self._forecast.quantiles(*self._moment(now_ns)),
            rtts,
            self._trips.smoothed_ns / MS if len(self._trips) else FIRST_RTT_NS / MS,
            max(self._clocks.upper_ns - self._clocks.lower_ns, 0) / MS,
            queue_ms,
            self._growth(now_ns, queue_ms),
            self._loss,
            self._delivered_bps(now_ns),
            self._in_flight,
        )

    def check(self) -> None:
        """Raise if the books do not balance."""
        assert self.sent == self.acknowledged + self.lost + len(self._open)
        assert self._in_flight == sum(size for _, size, _ in self._open.values())
        assert len(self._open) <= MAX_OPEN

    # -- inside

    def _measure(self, sent_ns: int, size: int, received_ns: int, now_ns: int, alone: bool) -> None:
        upper_ns = self._clocks.upper_ns
        end_ns = received_ns - upper_ns
        before_ns = None if self._through_ns is None else self._through_ns - upper_ns
        self._through_ns = received_ns if self._through_ns is None else max(self._through_ns, received_ns)
        self._waited_ns = 0
        if before_ns is not None and sent_ns < before_ns:  # it stood behind another
            self._waited_ns = before_ns - sent_ns
            self._capacity.add(before_ns, max(end_ns, before_ns), size)
            self._forecast.on_progress(self._capacity, now_ns)
        elif size <= SMALL_BYTES:
            if alone:  # not one of those that are sent because the link stands still
                self._trips.add(now_ns - sent_ns)
                self._ways.add(end_ns - sent_ns)
        else:
            self._measure_first(sent_ns, end_ns, size, now_ns)
        self._queues.append((now_ns, self._waited_ns))

    def _measure_first(self, sent_ns: int, end_ns: int, size: int, now_ns: int) -> None:
        """A chunk that met an idle link: its time is the way's and the link's; it tells of the greater of the two."""
        service_ns = int(8 * size / self._capacity.rates(end_ns, 0.0, 0.0)[1] * S)
        way_ns = self._ways.quantile_ns(0.5)
        if service_ns > self._ways.quantile_ns(0.9) - way_ns:
            begin_ns = min(sent_ns + way_ns, end_ns)
            self._capacity.add(begin_ns, end_ns, size)
        else:
            self._trips.add(max(now_ns - sent_ns - service_ns, self._clocks.upper_ns - self._clocks.lower_ns))

    def _moment(self, now_ns: int) -> tuple[Features, float]:
        rates = self._capacity.rates(now_ns, *self._overdue(now_ns))
        return features_of(rates, self._capacity.weight_s(now_ns)), rates[0]

    def _overdue(self, now_ns: int) -> tuple[float, float]:
        """Bits of the oldest message that is not acknowledged, and seconds that the link has surely worked on it."""
        if not self._open:
            return 0.0, 0.0
        sent_ns, size, _ = next(iter(self._open.values()))
        begin_ns = sent_ns
        if self._through_ns is not None:
            begin_ns = max(begin_ns, self._through_ns - self._clocks.upper_ns)
        return 8.0 * size, max(now_ns - self._trips.quantile_ns(0.9) - begin_ns, 0) / S

    def _queue_ns(self, now_ns: int) -> int:
        if not self._open:
            return 0
        sent_ns, _, _ = next(iter(self._open.values()))
        return max(self._waited_ns, now_ns - sent_ns - self._trips.quantile_ns(0.9), 0)

    def _growth(self, now_ns: int, queue_ms: float) -> float:
        for at_ns, waited_ns in self._queues:
            if now_ns - at_ns <= 4 * self.config.sample_ms * MS and now_ns > at_ns:
                return (queue_ms - waited_ns / MS) / ((now_ns - at_ns) / S)
        return 0.0

    def _awaited_since_ns(self) -> int | None:
        if not self._open:
            return None
        sent_ns, _, _ = next(iter(self._open.values()))
        return sent_ns if self._heard_ns is None else max(sent_ns, self._heard_ns)

    def _patience_ns(self) -> int:
        return max(int(self.config.outage_rtts * self._trips.quantile_ns(0.5)), self.config.outage_ms * MS)

    def _silent(self, now_ns: int) -> bool:
        since_ns = self._awaited_since_ns()
        return since_ns is not None and now_ns - since_ns > self._patience_ns()

    def _up(self, now_ns: int) -> bool:
        return self._connected and self._heard_ns is not None and not self._silent(now_ns)

    def _deliver(self, size: int, now_ns: int) -> None:
        at_ns, bits = self._delivered
        self._delivered = (now_ns, bits * math.exp(-max(now_ns - at_ns, 0) / DELIVERED_NS) + 8.0 * size)

    def _delivered_bps(self, now_ns: int) -> float:
        at_ns, bits = self._delivered
        return bits * math.exp(-max(now_ns - at_ns, 0) / DELIVERED_NS) / (DELIVERED_NS / S)

    def _lose(self, seq: int) -> None:
        _, size, _ = self._open.pop(seq)
        self._in_flight -= size
        self.lost += 1
        self._loss += (1 - self._loss) * LOSS_SHARE

    def _forget_open(self) -> None:
        while self._open:
            self._lose(next(iter(self._open)))
