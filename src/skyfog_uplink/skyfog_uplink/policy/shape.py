"""What goes on the link when: the plan, enforced.

The queue is held here and not in the network, so that a frame can be replaced, cut or passed while it waits.

    on_frame -> WAITING --first byte--> RUNNING --last byte--> OPEN --answer--> ended: ON_TIME, LATE, REFUSED
                   |                       |                     +--nothing--> ended: LOST, OUTAGE
                   +--> WITHHELD, REPLACED +--> CUT, OUTAGE

Window. At most window_rtts x rate x RTT and one chunk are unacknowledged at a time: with one the link is just never
idle, what is above it waits in the network, where it cannot be changed any more.

Order. Control goes before all, and no bucket holds it. Then the frame with the earliest deadline whose bucket has
tokens. The plan gives service i the rate b_i >= S_i / D_i, where D_i is the time that a frame of S_i bytes has for its
way, and the sum of the b_i is at most the budget B. A link that serves each service at b_i all the time (in fractions
of a byte) keeps every deadline; so such a schedule exists, and where one exists, earliest deadline first finds one
(Liu and Layland 1973; with release times Dertouzos 1974). It is not preemptive within a chunk: a frame is late by one
chunk over B at most, which is why chunks are short (CHUNK_MS at the link's rate).

Buckets. They must not break that: byte k of a frame that begins at t with no debt in its bucket has its token at
t + k / b_i at the latest, as in the schedule above, provided that no token is lost to a full bucket while the frame
waits for the link. So a bucket is as deep as a frame of the planned option (or burst_ms at its rate, if that is more).

Admission. A frame begins only if it is in time with probability `certainty` as the link is now (odds.py), and does not
take from those that have begun what they need: what has begun and misses is lost twice, what never began costs nothing.
The certainty follows what became of the frames before (doubt.py), so that the share of `misses` is kept. A frame that
has begun is cut only once it is UNLIKELY: its bytes are spent, so a fair chance is used.

Probes come last: only while no planned frame waits, and with less in flight, so that they build no queue. They are also
how a link that was thought slow is found to be faster: so they are sent unless they are hopeless, the first chunks
even then if no other was for EXPLORE_NS; and two chunks may always be in flight: one alone says nothing of the rate.

An outage (the estimator's word, or one that makes no sense) stops everything but pings. Frames under way keep their
place until they are hopeless. If the connection itself ends, the rest of a half-sent frame has nowhere to go and the
frame ends; what was sent in whole may still be answered: it ends at its deadline, or by GRACE_NS after it.
"""

from __future__ import annotations

import heapq
from operator import attrgetter

from skyfog_core.config.uplink import ShaperConfig
from skyfog_core.errors import Status
from skyfog_core.units import MS, S
from skyfog_core.wire.uplink import Ack, Answer
from skyfog_uplink.policy.books import Books, empty
from skyfog_uplink.policy.bucket import TokenBucket
from skyfog_uplink.policy.frames import Action, Ended, Frame, Outcome, SendChunk, SendPing, SendWithdraw
from skyfog_uplink.policy.judge import Judge
from skyfog_uplink.policy.lane import Lane, Sending
from skyfog_uplink.policy.link import Estimation, LinkState, down
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Plan

CHUNK_MS = 10.0  # a chunk is as long as the link takes for it, within the bounds
MIN_CHUNK_BYTES = 1_200
PING_BYTES = 64
GRACE_NS = 1 * S  # after its deadline, an answer is still told as late
LOST_NS = 500 * MS  # what was sent so much before something acknowledged is lost
REFRESH_NS = 10 * MS  # how old the state of the link may be that frames are judged by
JUMP_NS = 1 * S  # a clock that goes back by more has jumped
MAX_OPEN = 4_096
MEDIAN = 6  # in LEVELS
CAUTIOUS = 3  # the rate that probes are sent by
EXPLORE_CHUNKS = 6  # the first of a probe, sent whatever its odds after a silence of
EXPLORE_NS = 500 * MS
_DEADLINE_NS = attrgetter("head.frame.deadline_ns")


class Shaper:
    """Pure; every event returns the actions to perform, in order."""

    def __init__(self, table: Table, config: ShaperConfig, estimator: Estimation) -> None:
        self._config, self._estimator = config, estimator
        self._judge = Judge(table, config)
        self._lanes = {
            (service.name, probe): Lane(service, probe, TokenBucket(0, config.chunk_bytes, 0))
            for service in table.services
            for probe in (False, True)
        }
        self._planned = [lane for lane in self._lanes.values() if not lane.probe]
        self._probes = [lane for lane in self._lanes.values() if lane.probe]
        self._open: dict[int, Sending] = {}
        self._ends: list[tuple[int, int]] = []  # heap of (when to look, frame)
        self._flying: dict[int, tuple[int, int, Sending | None]] = {}  # seq -> bytes, sent_ns, whose; pings too
        self._in_flight = 0
        self._seq = 0
        self._connected = False
        self._now_ns = 0
        self._state: LinkState | None = None
        self._chunk = config.chunk_bytes
        self._window = self._probe_window = 0.0
        self._sent_ns: int | None = None  # the last chunk
        self._wake_ns: int | None = None  # when a bucket will have tokens
        self.books: Books = empty([service.name for service in table.services])

    def on_plan(self, plan: Plan, now_ns: int) -> list[Action]:
        """What each service may do from now on. A frame in sending goes on with what its bucket still brings."""
        out = self._begin(now_ns)
        for grant in plan.grants:
            self._grant(self._lanes[grant.service, False], grant.option, grant.rate_bps, now_ns, out)
            self._grant(self._lanes[grant.service, True], grant.probe, grant.probe_bps, now_ns, out)
        return self._pump(now_ns, out)

    def on_frame(self, frame: Frame, now_ns: int) -> list[Action]:
        """Take it, or end it at once. Raises ValueError for the id of a frame that has not ended."""
        out = self._begin(now_ns)
        if frame.id in self._open:
            raise ValueError(f"frame {frame.id} has not ended")
        lane = self._lanes.get((frame.service, frame.probe))
        if lane is None:
            raise ValueError(f"{frame.service}: no such service in the table")
        self.books.of(frame.service, frame.probe).taken += 1
        sending = self._open[frame.id] = Sending(frame)
        heapq.heappush(self._ends, (frame.deadline_ns, frame.id))
        why = self._unwanted(lane, frame, now_ns)
        if why:
            self._end(sending, Outcome.WITHHELD, now_ns, out, why)
            return self._pump(now_ns, out)
        older = lane.waiting
        if older is not None:
            self._end(older, Outcome.REPLACED, now_ns, out, "a newer frame came")
        lane.waiting = sending
        return self._pump(now_ns, out)

    def on_ack(self, ack: Ack, now_ns: int) -> list[Action]:
        """A chunk or a ping is through."""
        out = self._begin(now_ns)
        self._estimator.on_ack(ack.seq, ack.received_us, now_ns)
        found = self._flying.pop(ack.seq, None)
        if found is None:
            self.books.unknown_acks += 1
            return self._pump(now_ns, out)
        size, sent_ns, sending = found
        self._in_flight -= size
        if sending is not None:
            sending.acked += size
            sending.acked_ns = now_ns
        self._forget_lost(sent_ns)
        return self._pump(now_ns, out)

    def on_answer(self, answer: Answer, now_ns: int) -> list[Action]:
        """The cloud's word on a frame."""
        out = self._begin(now_ns)
        sending = self._open.get(answer.frame)
        if sending is None or not sending.sent:
            self.books.unclaimed += 1
        elif answer.status is Status.OK and sending.to_go:
            self.books.strange += 1
        else:
            late = now_ns > sending.frame.deadline_ns or answer.status is Status.DEADLINE_EXCEEDED
            good = Outcome.ON_TIME if answer.status is Status.OK else Outcome.REFUSED
            self._end(sending, Outcome.LATE if late else good, now_ns, out, answer.message, answer)
        return self._pump(now_ns, out)

    def on_unsent(self, seq: int, now_ns: int) -> list[Action]:
        """The transport did not take this chunk: its frame cannot become whole any more."""
        out = self._begin(now_ns)
        found = self._flying.pop(seq, None)
        if found is not None:
            size, _, sending = found
            self._in_flight -= size
            self.books.lost_chunks += 1
            if sending is not None and sending.frame.id in self._open:
                self._end(sending, Outcome.CUT, now_ns, out, "the transport did not take it")
        return self._pump(now_ns, out)

    def on_connected(self, now_ns: int) -> list[Action]:
        """There is a gateway, perhaps another one than before."""
        out = self._begin(now_ns)
        self._break(now_ns, out)
        self._connected = True
        self._estimator.on_connected(now_ns)
        return self._pump(now_ns, out)

    def on_disconnected(self, now_ns: int) -> list[Action]:
        """There is none: what waits is withheld, what is half sent is over."""
        out = self._begin(now_ns)
        self._break(now_ns, out)
        self._connected = False
        self._estimator.on_disconnected(now_ns)
        return out

    def on_timer(self, now_ns: int) -> list[Action]:
        """Due at next_timer_ns(); harmless at any other time."""
        out = self._begin(now_ns)
        if self._estimator.on_timer(now_ns):
            self._state = None
        return self._pump(now_ns, out)

    def next_timer_ns(self) -> int | None:
        due_ns = self._estimator.next_timer_ns()
        if self._wake_ns is not None and (due_ns is None or self._wake_ns < due_ns):
            due_ns = self._wake_ns
        if self._ends and (due_ns is None or self._ends[0][0] < due_ns):
            due_ns = self._ends[0][0]
        return due_ns

    def link(self, now_ns: int) -> LinkState:
        return self._estimator.state(now_ns)

    def check(self) -> None:
        """Raise if a frame or a byte is lost or counted twice."""
        for tally in self.books.tallies():
            assert tally.taken >= tally.ended
        taken = sum(tally.taken - tally.ended for tally in self.books.tallies())
        assert taken == len(self._open), f"{taken} frames have not ended, {len(self._open)} are known"
        ended = sum(sum(tally.bytes.values()) for tally in self.books.tallies())
        assert ended + sum(sending.sent for sending in self._open.values()) == self.books.sent_bytes
        assert sum(size for size, _, _ in self._flying.values()) == self._in_flight >= 0
        for lane in self._lanes.values():
            assert lane.running is None or 0 < lane.running.sent < lane.running.frame.size
            assert lane.waiting is None or lane.waiting.sent == 0
            for sending in (lane.running, lane.waiting):
                assert sending is None or self._open[sending.frame.id] is sending
        assert len(self._open) <= len(self._ends)
        self._estimator.check()

    def _begin(self, now_ns: int) -> list[Action]:
        """End what is over by now."""
        out: list[Action] = []
        if now_ns < self._now_ns - JUMP_NS:
            self._restart(now_ns, out)
        self._now_ns = now_ns
        while self._ends and self._ends[0][0] <= now_ns:
            _, frame_id = heapq.heappop(self._ends)
            sending = self._open.get(frame_id)
            if sending is not None:
                self._over(sending, now_ns, out)
        return out

    def _over(self, sending: Sending, now_ns: int, out: list[Action]) -> None:
        deadline_ns = sending.frame.deadline_ns
        if now_ns < deadline_ns:  # an id that was used before
            heapq.heappush(self._ends, (deadline_ns, sending.frame.id))
        elif not sending.sent:
            self._end(sending, Outcome.WITHHELD, now_ns, out, "its time went by in the queue")
        elif sending.to_go:
            self._end(sending, Outcome.OUTAGE if sending.outage else Outcome.CUT, now_ns, out, "its time is over")
        elif now_ns < deadline_ns + GRACE_NS:
            heapq.heappush(self._ends, (deadline_ns + GRACE_NS, sending.frame.id))
        else:
            self._end(sending, Outcome.OUTAGE if sending.outage else Outcome.LOST, now_ns, out, "no answer came")

    def _grant(self, lane: Lane, option: int, rate_bps: float, now_ns: int, out: list[Action]) -> None:
        lane.option = option
        if option == FLOOR:
            if lane.waiting is not None:
                self._end(lane.waiting, Outcome.WITHHELD, now_ns, out, "the plan took it back")
            return
        rate = int(rate_bps)
        frame_bytes = int(lane.service.options[option].bytes.values[-1])
        depth = max(int(rate * self._config.burst_ms / 8e3), frame_bytes, self._config.chunk_bytes)
        if (rate, depth) != (lane.bucket.rate_bps, lane.bucket.depth_bytes):
            lane.bucket.change(rate, depth, now_ns)

    def _unwanted(self, lane: Lane, frame: Frame, now_ns: int) -> str:
        if not self._connected:
            return "no gateway"
        if lane.option == FLOOR:
            return "the plan has it on the floor"
        if not 0 < frame.size <= self._config.max_frame_bytes:
            return f"{frame.size} bytes; at most {self._config.max_frame_bytes}"
        if now_ns >= frame.deadline_ns:
            return "its time was over when it came"
        return "too many frames are under way" if len(self._open) > MAX_OPEN else ""

    def _end(
        self, sending: Sending, outcome: Outcome, now_ns: int, out: list[Action], why: str, answer: Answer | None = None
    ) -> None:
        frame = sending.frame
        del self._open[frame.id]
        if sending.sent and answer is None and outcome is Outcome.CUT:
            out.append(SendWithdraw(frame.id))
            self.books.withdrawn += 1
        self._lanes[frame.service, frame.probe].drop(sending)
        tally = self.books.of(frame.service, frame.probe)
        tally.frames[outcome] += 1
        tally.bytes[outcome] += sending.sent
        self._judge.on_end(sending, outcome)
        out.append(
            Ended(
                frame,
                outcome,
                Status.NOT_EXECUTED if answer is None else answer.status,
                None if answer is None else now_ns,
                None if sending.acked_ns is None else (sending.acked_ns - sending.first_ns) / MS,
                None if answer is None else answer.cloud_us / 1e3,
                why,
            )
        )

    def _break(self, now_ns: int, out: list[Action]) -> None:
        """The connection ended: nothing that was in flight will be acknowledged."""
        self._flying.clear()
        self._in_flight = 0
        self._state = None
        for lane in self._lanes.values():
            if lane.running is not None:
                self._end(lane.running, Outcome.OUTAGE, now_ns, out, "the connection ended")
            if lane.waiting is not None:
                self._end(lane.waiting, Outcome.WITHHELD, now_ns, out, "the connection ended")
        for sending in self._open.values():
            sending.outage = True

    def _restart(self, now_ns: int, out: list[Action]) -> None:
        """The clock jumped back: no deadline means anything any more."""
        for sending in list(self._open.values()):
            outcome = Outcome.LOST if sending.sent else Outcome.WITHHELD
            self._end(sending, outcome, now_ns, out, "the clock jumped")
        self._ends.clear()
        self._flying.clear()
        self._in_flight = 0
        self._state = None

    def _forget_lost(self, acked_sent_ns: int) -> None:
        """As RACK (RFC 8985): what was sent well before something acknowledged will never be."""
        while self._flying:
            seq = next(iter(self._flying))
            size, sent_ns, sending = self._flying[seq]
            if sent_ns + LOST_NS > acked_sent_ns and len(self._flying) <= MAX_OPEN:
                return
            del self._flying[seq]
            self._in_flight -= size
            self.books.lost_chunks += sending is not None

    def _look(self, now_ns: int) -> LinkState:
        """The state of the link, as fresh as needed."""
        state = self._state
        if state is not None and 0 <= now_ns - state.now_ns < REFRESH_NS:
            return state
        state = self._estimator.state(now_ns)
        if not state.valid():
            self.books.senseless += 1
            state = down(now_ns)
        self._state = state
        if state.up:
            median = state.rates_bps[MEDIAN] / 8e3  # bytes a ms
            self._chunk = min(self._config.chunk_bytes, max(MIN_CHUNK_BYTES, int(median * CHUNK_MS)))
            self._window = median * state.rtt_ms * self._config.window_rtts
            self._probe_window = state.rates_bps[CAUTIOUS] / 8e3 * state.rtt_ms
        else:
            for sending in self._open.values():
                sending.outage |= sending.sent > 0
        return state

    def _pump(self, now_ns: int, out: list[Action]) -> list[Action]:
        """Send what may go now."""
        self._wake_ns = None
        if not self._connected:
            return out
        if self._estimator.ping_due(now_ns):
            self._ping(now_ns, out)
        while True:
            lane = self._next(now_ns)
            if lane is None:
                return out
            chunk, link = self._chunk, self._look(now_ns)
            if self._chunk != chunk:
                continue  # the lane was found for chunks of another length
            window = self._probe_window if lane.probe else self._window
            if not link.up or self._in_flight >= max(window, self._chunk + 1):
                return out
            sending = lane.head
            if not lane.probe:
                why = self._judge.planned(lane, sending, self._planned, link, self._in_flight, now_ns)
            elif self._explores(sending, now_ns):
                why = ""
            else:
                why = self._judge.probe(lane, sending, link, self._in_flight, now_ns)
            if not why:
                self._send(lane, sending, link, now_ns, out)
            else:
                self._end(sending, Outcome.CUT if sending.sent else Outcome.WITHHELD, now_ns, out, why)

    def _ping(self, now_ns: int, out: list[Action]) -> None:
        seq, self._seq = self._seq, self._seq + 1
        self._estimator.on_sent(seq, PING_BYTES, now_ns)
        self._flying[seq] = (0, now_ns, None)
        self._forget_lost(now_ns - S)  # in a long outage nothing is acknowledged: bounds what is remembered
        self.books.pings += 1
        out.append(SendPing(seq))

    def _next(self, now_ns: int) -> Lane | None:
        """The lane with the earliest deadline of those that have tokens; probes only if no planned frame waits."""
        for lanes in (self._planned, self._probes):
            waiting = [lane for lane in lanes if lane.waiting is not None or lane.running is not None]
            if len(waiting) > 1:
                waiting.sort(key=_DEADLINE_NS)
            for lane in waiting:
                size = min(self._chunk, lane.head.to_go)
                wait_ns = lane.bucket.wait_ns(size, now_ns)
                if wait_ns == 0:
                    return lane
                if wait_ns is not None:
                    wake_ns = now_ns + wait_ns
                    self._wake_ns = wake_ns if self._wake_ns is None else min(self._wake_ns, wake_ns)
            if waiting:
                return None
        return None

    def _explores(self, probe: Sending, now_ns: int) -> bool:
        """Whether the probe's next chunk goes for what it tells of the link alone."""
        if probe.sent:
            return probe.sent < EXPLORE_CHUNKS * self._chunk
        return self._sent_ns is None or not 0 <= now_ns - self._sent_ns < EXPLORE_NS

    def _send(self, lane: Lane, sending: Sending, link: LinkState, now_ns: int, out: list[Action]) -> None:
        frame = sending.frame
        size = min(self._chunk, sending.to_go)
        lane.bucket.take(size, now_ns)
        if not sending.sent:
            sending.first_ns = now_ns
            self._judge.on_begun(sending, now_ns)
            lane.waiting, lane.running = None, sending
        # Half the least round trip up, half the usual one down. The gateway takes the least of the chunks' counts.
        budget_ms = (frame.deadline_ns - now_ns) / MS - (link.rtt_min_ms + link.rtt_ms) / 2
        seq, self._seq = self._seq, self._seq + 1
        out.append(
            SendChunk(frame.id, frame.service, seq, sending.sent, size, frame.size, max(0, int(budget_ms)), frame.probe)
        )
        self._estimator.on_sent(seq, size, now_ns)
        self._flying[seq] = (size, now_ns, sending)
        self._in_flight += size
        self._sent_ns = now_ns
        sending.sent += size
        self.books.sent_bytes += size
        if not sending.to_go:
            lane.running = None
