"""Frames on their way, what a sender does with them, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from skyfog_core.errors import Status
from skyfog_core.wire.uplink import Ack, Answer
from skyfog_uplink.policy.link import LinkState
from skyfog_uplink.policy.plan import Plan


class Outcome(Enum):
    """What became of a frame that was to be offloaded. A frame whose outcome is not ON_TIME has the floor's answer."""

    ON_TIME = "on_time"
    LATE = "late"  # the answer came after the deadline
    LOST = "lost"  # no answer came at all
    OUTAGE = "outage"  # the link went away while it was sent or answered
    CUT = "cut"  # given up in the middle of sending: it could not be in time any more
    WITHHELD = "withheld"  # given up before its first byte: the link was not as planned
    REPLACED = "replaced"  # a newer frame of its service came before its first byte
    REFUSED = "refused"  # the cloud answered that it could not


MISSES = frozenset({Outcome.LATE, Outcome.LOST, Outcome.OUTAGE, Outcome.CUT, Outcome.REFUSED})  # bytes were spent


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoded frame of one service, ready to be sent. Times are the car's steady clock."""

    id: int  # grows over all services of the car
    service: str
    option: int  # index in Service.options
    captured_ns: int
    deadline_ns: int  # captured_ns + SLO
    size: int  # bytes
    probe: bool = False  # sent with what is left over, beside the planned one


@dataclass(frozen=True, slots=True)
class SendChunk:
    """Put bytes [offset, offset + size) of the frame on the link."""

    frame: int
    service: str
    seq: int
    offset: int
    size: int
    total: int
    budget_ms: int
    probe: bool


@dataclass(frozen=True, slots=True)
class SendPing:
    """Ask for an acknowledgement, so that the link is known while nothing else is sent."""

    seq: int


@dataclass(frozen=True, slots=True)
class SendWithdraw:
    """Tell the gateway that nobody waits any more."""

    frame: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The frame is over; exactly one for each that was taken. Its bytes may be forgotten.

    `answered_ns` is None where no answer came; `link_ms` from the first byte out to the last acknowledged.
    """

    frame: Frame
    outcome: Outcome
    status: Status = Status.NOT_EXECUTED
    answered_ns: int | None = None
    link_ms: float | None = None
    cloud_ms: float | None = None
    why: str = ""


Action = SendChunk | SendPing | SendWithdraw | Ended


class Sender(Protocol):
    """What holds the queue in the car: shape.Shaper, or a peer's. Pure; every event returns the actions to perform."""

    def on_plan(self, plan: Plan, now_ns: int) -> list[Action]: ...
    def on_frame(self, frame: Frame, now_ns: int) -> list[Action]: ...
    def on_ack(self, ack: Ack, now_ns: int) -> list[Action]: ...
    def on_answer(self, answer: Answer, now_ns: int) -> list[Action]: ...
    def on_unsent(self, seq: int, now_ns: int) -> list[Action]: ...
    def on_connected(self, now_ns: int) -> list[Action]: ...
    def on_disconnected(self, now_ns: int) -> list[Action]: ...
    def on_timer(self, now_ns: int) -> list[Action]: ...
    def next_timer_ns(self) -> int | None: ...
    def link(self, now_ns: int) -> LinkState: ...
    def check(self) -> None: ...
