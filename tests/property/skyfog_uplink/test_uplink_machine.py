"""Shaper and gateway joined by a link that delays, loses, repeats, reorders and breaks.

Kept: every frame that was taken ends exactly once; what the gateway asks is byte for byte what was to be sent; no
service sends above its rate by more than a burst; frames of one service are not interleaved; nothing is sent while
there is no gateway; the books of both ends balance after every event; once all is quiet, nothing is left.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from skyfog_core.config.router import RoutingConfig
from skyfog_core.config.uplink import GatewayConfig, ShaperConfig
from skyfog_core.errors import Status
from skyfog_core.units import MS, S
from skyfog_core.wire.uplink import Chunk, Downward, Ping, Upward, Withdraw
from skyfog_uplink.policy.frames import Action, Ended, Frame, Outcome, SendChunk, SendPing, SendWithdraw
from skyfog_uplink.policy.gateway import Ask, Cancel, Gateway, GatewayAction, SendAck, SendAnswer
from skyfog_uplink.policy.link import LinkState, down
from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.shape import GRACE_NS, Shaper
from support.uplink import FixedEstimator, grant, option, plan, service, table

HASH = bytes(32)
NAMES = ["a", "b", "c"]
SIZES = {"a": 3_000, "b": 20_000, "c": 60_000}
TABLE = table(*(service(name, 200, 10, option(size=SIZES[name], exec_ms=10)) for name in NAMES))
CONFIG = ShaperConfig(chunk_bytes=4_000, window_rtts=2.0, certainty=0.6)

rates = st.lists(st.floats(0, 5e7), min_size=10, max_size=10).map(lambda found: tuple(sorted(found)))
rtts = st.lists(st.floats(1, 300), min_size=4, max_size=4).map(lambda found: tuple(sorted(found)))


captures = st.tuples(
    st.sampled_from(NAMES), st.booleans(), st.integers(50, 900), st.floats(0.1, 2), st.sampled_from([0, 1, 5, 30, 100])
)


def payload_of(frame: int, size: int) -> bytes:
    return (frame.to_bytes(4, "big") * (size // 4 + 1))[:size]


class Ledger:
    """Of one lane: a bucket of its own, in exact numbers, and the frame that is being sent."""

    def __init__(self) -> None:
        self.rate, self.depth, self.level = 0, CONFIG.chunk_bytes, Fraction(CONFIG.chunk_bytes)
        self.as_of_ns = 0
        self.running: int | None = None

    def fill(self, now_ns: int) -> None:
        if now_ns > self.as_of_ns:
            self.level = min(Fraction(self.depth), self.level + Fraction(self.rate * (now_ns - self.as_of_ns), 8 * S))
        self.as_of_ns = now_ns


class UplinkMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.estimator = FixedEstimator()
        self.shaper = Shaper(TABLE, CONFIG, self.estimator)
        self.gateway = Gateway(GatewayConfig(services={f"/{name}": RoutingConfig() for name in NAMES}, max_open=6))
        self.now_ns = 0
        self.car_ns = 0  # the car's clock less the gateway's
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.era = 0  # of the connection: what was under way in an earlier one never arrives
        self.connected = False
        self.ids = itertools.count()
        self.frames: dict[int, Frame] = {}
        self.sent: dict[int, int] = {}
        self.ended: dict[int, Outcome] = {}
        self.asked: set[int] = set()
        self.ledgers = {(name, probe): Ledger() for name in NAMES for probe in (False, True)}
        self.lose = self.repeat = 0
        self.delays = itertools.cycle([20 * MS])
        self.replies: list[tuple[int, Status | None]] = [(10, Status.OK)]
        self.connect()
        self.new_plan([2_000_000, 5_000_000, 8_000_000], (1e6,) * 10)
        self.advance(200 * MS)

    # -- the world

    @property
    def car_now_ns(self) -> int:
        return self.now_ns + self.car_ns

    def at(self, delay_ns: int, call: Callable[[], None]) -> None:
        heapq.heappush(self.heap, (self.now_ns + delay_ns, next(self.order), call))

    def carry(self, call: Callable[[], None]) -> None:
        """Over the link: perhaps never, twice, or after what was sent later."""
        if self.lose:
            self.lose -= 1
            return
        era = self.era
        for _ in range(2 if self.repeat else 1):
            self.at(next(self.delays), lambda: call() if era == self.era else None)
        self.repeat = max(0, self.repeat - 1)

    def car(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendChunk():
                    self.chunk(action)
                case SendPing(seq):
                    assert self.connected
                    self.carry(lambda seq=seq: self.up(Ping(seq=seq)))  # type: ignore[misc]
                case SendWithdraw(frame):
                    assert self.frames[frame]
                    self.carry(lambda frame=frame: self.up(Withdraw(frame=frame)))  # type: ignore[misc]
                case Ended():
                    self.end(action)
        known = self.estimator.known
        if any(isinstance(action, SendChunk) for action in actions) and known.up:
            window = known.rates_bps[6] / 8e3 * known.rtt_ms * CONFIG.window_rtts
            assert self.shaper._in_flight <= max(window, CONFIG.chunk_bytes + 1) + CONFIG.chunk_bytes
        self.shaper.check()

    def chunk(self, chunk: SendChunk) -> None:
        frame = self.frames[chunk.frame]
        assert self.connected
        assert chunk.frame not in self.ended, "sent after its end"
        assert chunk.offset == self.sent[chunk.frame]
        assert (chunk.total, chunk.probe, chunk.service) == (frame.size, frame.probe, frame.service)
        assert 0 < chunk.size <= min(CONFIG.chunk_bytes, frame.size - chunk.offset)
        assert chunk.budget_ms <= (frame.deadline_ns - self.car_now_ns) / MS
        ledger = self.ledgers[frame.service, frame.probe]
        assert ledger.running in {None, chunk.frame}, "two frames of one service are interleaved"
        ledger.fill(self.car_now_ns)
        ledger.level -= chunk.size
        assert ledger.level >= 0, "above its rate by more than a burst"
        self.sent[chunk.frame] += chunk.size
        ledger.running = chunk.frame if self.sent[chunk.frame] < frame.size else None
        first = {"service": f"/{frame.service}", "type_hash": HASH} if chunk.offset == 0 else {}
        message = Chunk(
            seq=chunk.seq,
            frame=chunk.frame,
            offset=chunk.offset,
            total=chunk.total,
            budget_ms=chunk.budget_ms,
            **first,  # type: ignore[arg-type]
        )
        part = payload_of(chunk.frame, frame.size)[chunk.offset : chunk.offset + chunk.size]
        self.carry(lambda: self.up(message, part))

    def end(self, action: Ended) -> None:
        assert action.frame == self.frames[action.frame.id]
        assert action.frame.id not in self.ended, "ended twice"
        self.ended[action.frame.id] = action.outcome
        if action.outcome is Outcome.ON_TIME:
            assert action.answered_ns is not None
            assert action.answered_ns <= action.frame.deadline_ns
            assert action.frame.id in self.asked
        if action.outcome in {Outcome.WITHHELD, Outcome.REPLACED}:
            assert not self.sent[action.frame.id]
        for ledger in self.ledgers.values():
            if ledger.running == action.frame.id:
                ledger.running = None

    def up(self, message: Upward, payload: bytes = b"") -> None:
        if isinstance(message, Chunk):
            self.cloud(self.gateway.on_chunk("car", message, payload, self.now_ns))
        elif isinstance(message, Ping):
            self.cloud(self.gateway.on_ping("car", message, self.now_ns))
        else:
            self.cloud(self.gateway.on_withdraw("car", message, self.now_ns))

    def cloud(self, actions: list[GatewayAction]) -> None:
        for action in actions:
            match action:
                case SendAck(_, ack):
                    self.carry(lambda ack=ack: self.down(ack))  # type: ignore[misc]
                case Ask():
                    frame = self.frames[action.frame]
                    assert b"".join(action.parts) == payload_of(action.frame, frame.size)
                    assert action.frame not in self.asked, "asked twice"
                    assert action.budget_ms >= 1
                    self.asked.add(action.frame)
                    self.ask(action)
                case SendAnswer(_, answer, _):
                    self.carry(lambda answer=answer: self.down(answer))  # type: ignore[misc]
                case Cancel():
                    assert action.frame in self.asked
        self.gateway.check()

    def ask(self, ask: Ask) -> None:
        delay_ms, status = self.replies[ask.frame % len(self.replies)]
        if status is not None:
            self.at(
                delay_ms * MS,
                lambda: self.cloud(self.gateway.on_reply("car", ask.frame, status, self.now_ns, b"boxes")),
            )

    def down(self, message: Downward) -> None:
        if hasattr(message, "seq"):
            self.car(self.shaper.on_ack(message, self.car_now_ns))  # type: ignore[arg-type]
        else:
            self.car(self.shaper.on_answer(message, self.car_now_ns))  # type: ignore[arg-type]

    def advance(self, by_ns: int) -> None:
        until_ns = self.now_ns + by_ns
        for _ in range(20_000):
            car_ns, cloud_ns = self.shaper.next_timer_ns(), self.gateway.next_timer_ns()
            times = [
                (self.heap[0][0], 0) if self.heap else None,
                (max(self.now_ns, car_ns - self.car_ns), 1) if car_ns is not None else None,
                (max(self.now_ns, cloud_ns), 2) if cloud_ns is not None else None,
            ]
            due_ns, what = min(time for time in [*times, (until_ns + 1, 3)] if time is not None)
            if due_ns > until_ns:
                self.now_ns = until_ns
                return
            self.now_ns = due_ns
            if what == 0:
                heapq.heappop(self.heap)[2]()
            elif what == 1:
                self.car(self.shaper.on_timer(self.car_now_ns))
            else:
                self.cloud(self.gateway.on_timer(self.now_ns))
        raise AssertionError("time stands still")

    # -- what happens

    @rule(captures=st.lists(captures, min_size=1, max_size=8))
    def drive(self, captures: list[tuple[str, bool, int, float, int]]) -> None:
        for name, probe, slo_ms, share, wait_ms in captures:
            now_ns = self.car_now_ns
            size = max(1, int(SIZES[name] * share))
            frame = Frame(next(self.ids), name, 0, now_ns, now_ns + slo_ms * MS, size, probe)
            self.frames[frame.id], self.sent[frame.id] = frame, 0
            self.car(self.shaper.on_frame(frame, now_ns))
            self.advance(wait_ms * MS)

    @rule(rates_bps=st.lists(st.one_of(st.just(0), st.integers(10_000, 10**8)), min_size=3, max_size=3), spare=rates)
    def new_plan(self, rates_bps: list[int], spare: tuple[float, ...]) -> None:
        grants = [
            grant(name, rate, 0 if rate else FLOOR, probe_bps=spare[at])
            for at, (name, rate) in enumerate(zip(NAMES, rates_bps, strict=True))
        ]
        for each in grants:
            for probe, chosen, rate in ((False, each.option, each.rate_bps), (True, each.probe, each.probe_bps)):
                if chosen != FLOOR:
                    ledger = self.ledgers[each.service, probe]
                    ledger.fill(self.car_now_ns)
                    ledger.rate = int(rate)
                    ledger.depth = max(int(rate * CONFIG.burst_ms / 8e3), SIZES[each.service], CONFIG.chunk_bytes)
                    ledger.level = min(ledger.level, Fraction(ledger.depth))
        self.car(self.shaper.on_plan(plan(*grants), self.car_now_ns))

    @rule(rates_bps=rates, rtts_ms=rtts, up=st.booleans(), ping=st.booleans())
    def link_changes(self, rates_bps: tuple[float, ...], rtts_ms: tuple[float, ...], up: bool, ping: bool) -> None:
        known = LinkState(0, True, rates_bps, rtts_ms, rtts_ms[1], rtts_ms[0])
        self.estimator.known = known if up or ping else down(0)
        self.estimator.stepped, self.estimator.ping = True, ping
        self.car(self.shaper.on_timer(self.car_now_ns))

    @rule()
    def connect(self) -> None:
        """Perhaps anew, without having been told that the old connection ended."""
        self.connected = True
        self.era += 1
        for ledger in self.ledgers.values():
            ledger.running = None
        self.car(self.shaper.on_connected(self.car_now_ns))

    @rule(drop=st.booleans(), away_ms=st.integers(0, 500))
    def disconnect(self, drop: bool, away_ms: int) -> None:
        self.connected = False
        self.era += drop
        self.car(self.shaper.on_disconnected(self.car_now_ns))
        self.drive([("a", False, 300, 1.0, away_ms)])
        self.connect()

    @rule(lose=st.integers(0, 5), repeat=st.integers(0, 5))
    def link_fails(self, lose: int, repeat: int) -> None:
        self.lose, self.repeat = lose, repeat

    @rule(delays_ms=st.lists(st.integers(0, 400), min_size=1, max_size=5))
    def link_delays(self, delays_ms: list[int]) -> None:
        self.delays = itertools.cycle([delay * MS for delay in delays_ms])

    @rule(replies=st.lists(st.tuples(st.integers(0, 300), st.sampled_from([*Status, None])), min_size=1, max_size=4))
    def cloud_changes(self, replies: list[tuple[int, Status | None]]) -> None:
        self.replies = replies

    @rule(which=st.integers(0, 50))
    def transport_refuses(self, which: int) -> None:
        self.car(self.shaper.on_unsent(which, self.car_now_ns))

    @rule(by_s=st.sampled_from([-60, -1, 60]))
    def clock_jumps(self, by_s: int) -> None:
        for ledger in self.ledgers.values():
            ledger.fill(self.car_now_ns)
        self.car_ns += by_s * S
        if by_s < 0:
            for ledger in self.ledgers.values():
                ledger.as_of_ns = self.car_now_ns
        self.car(self.shaper.on_timer(self.car_now_ns))

    @rule(by_ms=st.one_of(st.integers(0, 50), st.integers(0, 2_000)))
    def wait(self, by_ms: int) -> None:
        self.advance(by_ms * MS)

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "shaper"):
            known = self.shaper._open.keys()
            assert known | self.ended.keys() == self.frames.keys()
            assert not known & self.ended.keys()

    def teardown(self) -> None:
        if hasattr(self, "shaper"):
            self.advance(70 * S + GRACE_NS)
            self.nothing_is_lost()
            assert not self.shaper._open
            assert not self.shaper._ends
            assert self.gateway.open_frames() == 0
            assert len(self.shaper._flying) <= len(self.estimator.sent)


TestUplink = UplinkMachine.TestCase
TestUplink.settings = settings(max_examples=60, stateful_step_count=40)
