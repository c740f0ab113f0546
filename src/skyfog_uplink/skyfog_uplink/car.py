"""The car's driver: one thread owns the shaper's policy and performs its actions on a transport. Knows no ROS.

Whoever has a frame gives it to `offload` and hears exactly once what became of it. Whoever wants to know the link is
told by `on_link`, at each step and a few times a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from skyfog_core.clock import Clock
from skyfog_core.errors import InvalidReply, InvalidRequest, Overloaded, Status
from skyfog_core.owner import SNAPSHOT_LIMIT_S, Owner
from skyfog_core.trace import Trace
from skyfog_core.units import MS, US, S, ms_to_ns, ns_to_ms
from skyfog_core.wire.uplink import Ack, Answer, Chunk, Downward, Ping, Withdraw
from skyfog_uplink.policy.books import Books
from skyfog_uplink.policy.follow import PlanFollower
from skyfog_uplink.policy.frames import Action, Ended, Frame, Outcome, SendChunk, Sender, SendPing, SendWithdraw
from skyfog_uplink.policy.ledger import Ledger, ServiceReport
from skyfog_uplink.policy.link import LEVELS, LinkState
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.plan import Plan
from skyfog_uplink.transport.base import CarTransport

log = structlog.get_logger()

MAX_INBOX = 10_000
MAX_OPEN = 1_000  # frames under way; a policy has one a service in its queue, and few on the link
TELL_NS = 100 * MS  # the link is told at least so often,
LOOK_NS = 20 * MS  # looked at no more often,
TELL_STEP = 0.2  # and told at once after a change by this share
TELL_LEVELS = (LEVELS.index(0.05), LEVELS.index(0.5))


class Shaping(Sender, Protocol):
    """The policy, see policy/shape.py."""

    books: Books


class Caller(Protocol):
    """Who waits for one frame. Called once, from the driver's thread; `payload` is the response where it is in time."""

    def ended(self, ended: Ended, payload: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class CarReport:
    """The car's end of the uplink as of now. Fields as in skyfog_interfaces/UplinkState."""

    gateway: str  # empty: connected with none
    up: bool
    plan: int
    plan_age_s: float
    budget_bps: float
    sent_bps: float
    services: tuple[ServiceReport, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the driver holds to."""

    max_frame_bytes: int
    stale_ns: int  # a plan told longer ago is in force no more


@dataclass(frozen=True, slots=True)
class _Open:
    frame: Frame
    payload: bytes
    caller: Caller
    taken_ns: int


class CarDriver:
    """Owns the shaper of one car."""

    def __init__(
        self,
        table: Table,
        shaper: Shaping,
        transport: CarTransport,
        clock: Clock,
        trace: Trace,
        hashes: Mapping[str, bytes],
        limits: Limits,
        on_link: Callable[[LinkState], None],
    ) -> None:
        """`hashes`: RIHS01 of the types that are installed here. `on_link` is called from the driver's thread."""
        self._table, self._shaper, self._transport = table, shaper, transport
        self._clock, self._trace, self._hashes, self._limits, self._on_link = clock, trace, hashes, limits, on_link
        self._services = {service.name: service for service in table.services}
        self._follower = PlanFollower(table, limits.stale_ns, clock.now_ns())
        self._ledger = Ledger(table, clock.now_ns())
        self._open: dict[int, _Open] = {}
        self._frame = clock.now_ns() // US  # beyond the ids of a driver before this one, which a gateway may know still
        self._gateway = ""
        self._looked_ns = self._told_ns = -S
        self._told: LinkState | None = None
        self._refused_plan = ""
        self._owner = Owner("uplink", clock, self._on_timer, limit=MAX_INBOX)

    def start(self) -> None:
        """Begin to send; every service is on the floor until a plan comes."""
        self._owner.start()
        self._owner.post(lambda now_ns: self._perform(self._shaper.on_plan(self._follower.plan, now_ns), now_ns))
        self._transport.start(self)

    def offload(self, service: str, option: int, age_ns: int, payload: bytes, probe: bool, caller: Caller) -> None:
        """Take a frame that was captured `age_ns` ago. Any thread.

        Raises InvalidRequest for what is not in the table, Overloaded; `caller` then hears nothing.
        """
        known = self._services.get(service)
        if known is None:
            raise InvalidRequest(f"no service {service!r} in the table {self._table.name}: {', '.join(self._services)}")
        if not 0 <= option < len(known.options):
            raise InvalidRequest(f"{service} has options 0 to {len(known.options) - 1}, not {option}")
        if known.type not in self._hashes:
            raise InvalidRequest(f"{service}: its type {known.type} is not installed here")
        if not 0 < len(payload) <= self._limits.max_frame_bytes:
            raise InvalidRequest(f"{len(payload)} bytes; 1 to {self._limits.max_frame_bytes} are taken")
        if age_ns < 0:
            raise InvalidRequest(f"captured {-age_ns} ns in the future")
        captured_ns = self._clock.now_ns() - age_ns
        deadline_ns = captured_ns + ms_to_ns(known.slo_ms)

        def take(now_ns: int) -> None:
            self._frame += 1
            frame = Frame(self._frame, service, option, captured_ns, deadline_ns, len(payload), probe)
            if len(self._open) >= MAX_OPEN:
                why = f"{MAX_OPEN} frames are under way"
                caller.ended(Ended(frame, Outcome.WITHHELD, Status.NOT_EXECUTED, why=why), b"")
                return
            self._open[frame.id] = _Open(frame, payload, caller, now_ns)
            self._perform(self._shaper.on_frame(frame, now_ns), now_ns)

        self._owner.submit(take)

    def plan(self, plan: Plan) -> None:
        """Follow this plan, or go on following it. Any thread."""
        self._owner.post(lambda now_ns: self._on_plan(plan, now_ns))

    def report(self, limit_s: float = SNAPSHOT_LIMIT_S) -> CarReport:
        """What is known now. Any thread but the driver's. Raises Overloaded where it is too busy."""
        return self._owner.ask(self._report, limit_s)

    def close(self) -> None:
        """End what is open, leave the network, end the thread."""
        self._transport.close()
        self._owner.close(self._on_close)
        self._trace.close()

    # CarEvents, from the transport's threads

    def received(self, message: Downward, payload: bytes) -> None:
        try:
            self._owner.submit(lambda now_ns: self._on_message(message, payload, now_ns))
        except Overloaded:  # more than a gateway that follows the protocol could say; an acknowledgement is lost
            log.warning("message_dropped", kind=type(message).__name__)

    def connected(self, gateway: str) -> None:
        self._owner.post(lambda now_ns: self._on_connected(gateway, now_ns))

    def disconnected(self, why: str) -> None:
        self._owner.post(lambda now_ns: self._on_disconnected(why, now_ns))

    # in the driver's thread

    def _on_plan(self, plan: Plan, now_ns: int) -> None:
        try:
            changed = self._follower.on_plan(plan, now_ns)
        except InvalidReply as error:
            if str(error) != self._refused_plan:  # an allocator repeats its plan
                self._refused_plan = str(error)
                log.warning("plan_refused", why=str(error))
            return
        if changed:
            self._note_plan(plan, now_ns)
            self._perform(self._shaper.on_plan(plan, now_ns), now_ns)

    def _note_plan(self, plan: Plan, now_ns: int) -> None:
        granted = {
            grant.service: {"option": grant.option, "bps": round(grant.rate_bps), "probe": grant.probe}
            for grant in plan.grants
        }
        budget = round(plan.budget_bps)
        self._trace.event("plan", now_ns, number=plan.number, because=plan.because, budget_bps=budget, granted=granted)

    def _on_message(self, message: Downward, payload: bytes, now_ns: int) -> None:
        match message:
            case Ack():
                self._perform(self._shaper.on_ack(message, now_ns), now_ns)
            case Answer():
                actions = self._shaper.on_answer(message, now_ns)
                self._perform(actions, now_ns, (message, payload))

    def _on_connected(self, gateway: str, now_ns: int) -> None:
        log.info("gateway_found", gateway=gateway)
        self._trace.event("connected", now_ns, gateway=gateway)
        self._gateway = gateway
        self._perform(self._shaper.on_connected(now_ns), now_ns)

    def _on_disconnected(self, why: str, now_ns: int) -> None:
        log.warning("gateway_lost", gateway=self._gateway, why=why)
        self._trace.event("disconnected", now_ns, gateway=self._gateway, why=why)
        self._gateway = ""
        self._perform(self._shaper.on_disconnected(now_ns), now_ns)

    def _on_timer(self, now_ns: int) -> int | None:
        if self._follower.on_timer(now_ns):
            log.warning("plan_too_old", after_s=self._limits.stale_ns / S)
            self._note_plan(self._follower.plan, now_ns)
            self._perform(self._shaper.on_plan(self._follower.plan, now_ns), now_ns)
        due_ns = self._shaper.next_timer_ns()
        if due_ns is not None and due_ns <= now_ns:
            self._perform(self._shaper.on_timer(now_ns), now_ns)
        self._tell_link(now_ns)
        due = (self._shaper.next_timer_ns(), self._follower.next_timer_ns(), self._told_ns + TELL_NS)
        return min(at for at in due if at is not None)

    def _tell_link(self, now_ns: int) -> None:
        if now_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = now_ns
        link = self._shaper.link(now_ns)
        if now_ns - self._told_ns >= TELL_NS or self._told is None or stepped(self._told, link):
            if self._told is None or link.up != self._told.up:
                self._trace.event("link", now_ns, up=link.up)
            self._told_ns, self._told = now_ns, link
            self._on_link(link)

    def _perform(self, actions: list[Action], now_ns: int, answer: tuple[Answer, bytes] | None = None) -> None:
        for action in actions:
            match action:
                case SendChunk():
                    self._send(action, now_ns)
                case SendPing():
                    self._transport.send(Ping(seq=action.seq))
                case SendWithdraw():
                    self._transport.send(Withdraw(frame=action.frame))
                case Ended():
                    mine = answer is not None and answer[0].frame == action.frame.id
                    payload = answer[1] if answer is not None and mine and action.outcome is Outcome.ON_TIME else b""
                    self._end(action, payload, now_ns)

    def _send(self, chunk: SendChunk, now_ns: int) -> None:
        first = chunk.offset == 0
        service = self._services[chunk.service]
        message = Chunk(
            seq=chunk.seq,
            frame=chunk.frame,
            offset=chunk.offset,
            total=chunk.total,
            budget_ms=chunk.budget_ms,
            service=service.cloud if first else "",
            type_hash=self._hashes[service.type] if first else b"",
        )
        payload = self._open[chunk.frame].payload[chunk.offset : chunk.offset + chunk.size]
        if self._transport.send(message, payload):
            self._ledger.on_sent(chunk.service, chunk.size, now_ns)
        else:  # told as an event, so that the actions of this one are over before it
            self._owner.post(lambda now: self._perform(self._shaper.on_unsent(chunk.seq, now), now))

    def _end(self, ended: Ended, payload: bytes, now_ns: int) -> None:
        frame = ended.frame
        opened = self._open.pop(frame.id)
        self._ledger.on_ended(ended, now_ns)
        took_ns = None if ended.answered_ns is None else ended.answered_ns - frame.captured_ns
        self._trace.event(
            "ended",
            now_ns,
            frame=frame.id,
            service=frame.service,
            option=frame.option,
            probe=frame.probe,
            bytes=frame.size,
            outcome=ended.outcome.value,
            pre_ms=ns_to_ms(opened.taken_ns - frame.captured_ns),
            ms=None if took_ns is None else ns_to_ms(took_ns),
            link_ms=ended.link_ms,
            cloud_ms=ended.cloud_ms,
            why=ended.why,
        )
        opened.caller.ended(ended, payload)

    def _report(self, now_ns: int) -> CarReport:
        plan, age_ns = self._follower.plan, self._follower.age_ns(now_ns)
        return CarReport(
            gateway=self._gateway,
            up=self._told is not None and self._told.up,
            plan=0 if age_ns is None else plan.number,
            plan_age_s=math.nan if age_ns is None else age_ns / S,
            budget_bps=plan.budget_bps,
            sent_bps=self._ledger.sent_bps(now_ns),
            services=self._ledger.reports(plan, self._shaper.books, now_ns),
        )

    def _on_close(self, now_ns: int) -> None:
        self._shaper.check()
        self._perform(self._shaper.on_disconnected(now_ns), now_ns)
        for left in list(self._open.values()):
            self._end(Ended(left.frame, Outcome.LOST, Status.OUTCOME_UNKNOWN, why="the shaper shuts down"), b"", now_ns)


def stepped(before: LinkState, now: LinkState) -> bool:
    """Whether the link has changed by so much that others should know at once."""
    pairs = [(before.rates_bps[level], now.rates_bps[level]) for level in TELL_LEVELS]
    pairs.append((before.rtt_ms, now.rtt_ms))
    return before.up != now.up or any(abs(new - old) > TELL_STEP * max(old, 1.0) for old, new in pairs)
