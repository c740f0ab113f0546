"""The driver of one service of a car: each image to the model on the car, and to the cloud as planned. Knows no ROS.

    image -> owner thread: Merger, PlanFollower --each image--> the model on the car
                  |                                                   | answer
                  +--newest wins--> encoder thread --frame--> shaper  |
                                                        | answer      |
             publish <------------------- Merger <------+-------------+

Whatever the shaper, the plan or the encoder do, the model on the car is asked about every image, from the owner's
thread, which waits for nobody.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

import structlog

from skyfog_core.clock import Clock
from skyfog_core.errors import ConfigError, InvalidReply, InvalidRequest
from skyfog_core.owner import SNAPSHOT_LIMIT_S, Owner
from skyfog_core.units import S, ms_to_ns
from skyfog_uplink.diagnosis import ClientReport
from skyfog_uplink.policy.follow import PlanFollower
from skyfog_uplink.policy.merge import MergeAction, Merger, Missed, Publish
from skyfog_uplink.policy.model import FLOOR, Option, Table
from skyfog_uplink.policy.plan import Grant, Plan

log = structlog.get_logger()

MAX_INBOX = 1_000
CLOSE_LIMIT_S = 2.0

T = TypeVar("T")


class Newest(Generic[T]):
    """A place for one thing, which a newer one takes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Returns what was there and nobody took."""
        with self._changed:
            before, self._item = self._item, item
            self._changed.notify()
            return before

    def take(self) -> T | None:
        """Waits; None once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    @property
    def waiting(self) -> bool:
        """Whether something newer is there."""
        return self._item is not None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()


class Pace:
    """Which images of a camera are taken, so that they are `rate_hz` on average, whatever the camera's own rate."""

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = round(S / rate_hz)
        self._due_ns: int | None = None

    def take(self, now_ns: int) -> bool:
        """Whether this one: a camera of just the rate may jitter by a quarter of its period."""
        if self._due_ns is None or self._due_ns > now_ns + 2 * self._period_ns:  # the first, or the clock jumped back
            self._due_ns = now_ns
        if now_ns < self._due_ns - self._period_ns // 4:
            return False
        self._due_ns = max(self._due_ns, now_ns - self._period_ns // 2) + self._period_ns
        return True


@dataclass(frozen=True, slots=True)
class Capture:
    """One image of the camera; what `image` is, only the peers know."""

    number: int
    image: Any
    captured_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Told:
    """An answer to be published."""

    capture: Capture
    option: int  # FLOOR: of the car's own model
    answer: Any


class Peers(Protocol):
    """The world around the driver. Each call returns soon."""

    def ask_car(self, capture: Capture) -> bool:
        """Ask the model on the car; whether it was asked. Then ends in `car_answered`. From the owner's thread."""
        ...

    def can_offload(self) -> bool:
        """Whether the shaper is there. From the owner's thread."""
        ...

    def encode(self, capture: Capture, option: Option) -> bytes:
        """The service's request. From the encoder's thread. Raises InvalidRequest, ConfigError."""
        ...

    def offload(self, capture: Capture, option: int, probe: bool, payload: bytes) -> None:
        """Give it to the shaper. Ends in `cloud_answered`. From the encoder's thread."""
        ...

    def publish(self, told: Told, how: Publish) -> None:
        """From the owner's thread."""
        ...


@dataclass(frozen=True, slots=True)
class _Job:
    capture: Capture
    wanted: tuple[tuple[int, bool], ...]  # option, whether it is a probe


class ClientDriver:
    """Owns the merger of one service."""

    def __init__(
        self,
        table: Table,
        service: str,
        peers: Peers,
        clock: Clock,
        publish: Literal["each", "best"],
        stale_ns: int,
    ) -> None:
        """`stale_ns`: a plan told longer ago is in force no more."""
        self._at = table.index(service)
        self._spec = table.services[self._at]
        self._peers, self._clock = peers, clock
        self._follower = PlanFollower(table, stale_ns, clock.now_ns())
        self._merger = Merger(publish, self._spec.floor.accuracy)
        self._jobs: Newest[_Job] = Newest()
        self._pace = Pace(self._spec.rate_hz)
        self._number = 0
        self._image_ns: int | None = None
        self._counts = ClientReport()
        self._unencodable = ""
        self._owner = Owner(f"client-{service}", clock, self._on_timer, limit=MAX_INBOX)
        self._encoder = threading.Thread(target=self._encode_all, name=f"encode-{service}", daemon=True)

    def start(self) -> None:
        """Every image goes to the car's own model alone until a plan comes."""
        self._owner.start()
        self._encoder.start()

    def close(self) -> None:
        """End both threads."""
        self._jobs.close()
        self._owner.close(lambda _now_ns: self._merger.check())
        self._encoder.join(CLOSE_LIMIT_S)

    def image(self, image: Any, age_ns: int) -> None:
        """An image that was captured `age_ns` ago. Any thread. Raises Overloaded."""
        captured_ns = self._clock.now_ns() - age_ns
        self._owner.submit(lambda now_ns: self._on_image(image, captured_ns, now_ns))

    def plan(self, plan: Plan) -> None:
        """Follow this plan, or go on following it. Any thread."""
        self._owner.post(lambda now_ns: self._on_plan(plan, now_ns))

    def car_answered(self, capture: Capture, answer: Any | None) -> None:
        """What the model on the car says; None: nothing. Any thread."""
        self._owner.post(lambda now_ns: self._on_car(capture, answer, now_ns))

    def cloud_answered(self, capture: Capture, option: int, answer: Any | None) -> None:
        """What the cloud says in time; None: nothing. Any thread."""
        self._owner.post(lambda now_ns: self._on_cloud(capture, option, answer, now_ns))

    def report(self, limit_s: float = SNAPSHOT_LIMIT_S) -> ClientReport:
        """What was counted. Any thread but the owner's. Raises Overloaded where it is too busy."""
        return self._owner.ask(self._report, limit_s)

    # in the owner's thread

    def _on_image(self, image: Any, captured_ns: int, now_ns: int) -> None:
        self._image_ns = now_ns
        if not self._pace.take(now_ns):
            self._count(surplus=1)
            return
        self._number += 1
        capture = Capture(self._number, image, captured_ns, captured_ns + ms_to_ns(self._spec.slo_ms))
        grant = self._follower.plan.grants[self._at]
        wanted = _wanted(grant) if self._peers.can_offload() else ()
        self._count(images=1)
        self._perform(self._merger.on_capture(capture.number, capture.deadline_ns, len(wanted), now_ns))
        if not self._peers.ask_car(capture):
            self._count(car_failed=1)
        if wanted and (before := self._jobs.put(_Job(capture, wanted))) is not None:
            self._count(skipped=1)
            self._none_of(before, now_ns)

    def _none_of(self, job: _Job, now_ns: int) -> None:
        for _ in job.wanted:
            self._perform(self._merger.on_cloud_gone(job.capture.number, now_ns))

    def _on_plan(self, plan: Plan, now_ns: int) -> None:
        with contextlib.suppress(InvalidReply):  # the shaper, which gets the same plan, says why
            self._follower.on_plan(plan, now_ns)

    def _on_car(self, capture: Capture, answer: Any | None, now_ns: int) -> None:
        if answer is None:
            self._count(car_failed=1)
            return
        self._count(car=1)
        told = Told(capture, FLOOR, answer)
        self._perform(self._merger.on_car(capture.number, told, now_ns))

    def _on_cloud(self, capture: Capture, option: int, answer: Any | None, now_ns: int) -> None:
        if answer is None:
            self._perform(self._merger.on_cloud_gone(capture.number, now_ns))
            return
        self._count(cloud=1)
        told, accuracy = Told(capture, option, answer), self._spec.accuracy(option)
        self._perform(self._merger.on_cloud(capture.number, told, accuracy, now_ns))

    def _on_timer(self, now_ns: int) -> int | None:
        self._follower.on_timer(now_ns)
        due_ns = self._merger.next_timer_ns()
        if due_ns is not None and due_ns <= now_ns:
            self._perform(self._merger.on_timer(now_ns))
        due = (self._merger.next_timer_ns(), self._follower.next_timer_ns())
        return min((at for at in due if at is not None), default=None)

    def _perform(self, actions: list[MergeAction]) -> None:
        for action in actions:
            match action:
                case Publish():
                    self._peers.publish(action.answer, action)
                case Missed():
                    self._count(missed=1)

    def _count(self, **more: int) -> None:
        self._counts = replace(self._counts, **{name: getattr(self._counts, name) + by for name, by in more.items()})

    def _report(self, now_ns: int) -> ClientReport:
        if self._image_ns is None:
            return replace(self._counts, shaper=self._peers.can_offload())
        age_s = (now_ns - self._image_ns) / S
        return replace(self._counts, image_age_s=age_s, shaper=self._peers.can_offload())

    # in the encoder's thread

    def _encode_all(self) -> None:
        while (job := self._jobs.take()) is not None:
            self._encode_job(job)

    def _encode_job(self, job: _Job) -> None:
        for option, probe in job.wanted:
            late = self._clock.now_ns() >= job.capture.deadline_ns
            if late or (probe and self._jobs.waiting) or not self._encode(job.capture, option, probe):
                self.cloud_answered(job.capture, option, None)

    def _encode(self, capture: Capture, option: int, probe: bool) -> bool:
        """Whether the shaper has it."""
        try:
            payload = self._peers.encode(capture, self._spec.options[option])
            self._peers.offload(capture, option, probe, payload)
        except (InvalidRequest, ConfigError) as error:
            why = str(error)
            self._owner.post(lambda _now_ns: self._on_unencodable(why))
            return False
        except Exception:
            log.exception("not_offloaded", service=self._spec.name)
            return False
        self._owner.post(lambda _now_ns: self._count(offered=1))
        return True

    def _on_unencodable(self, why: str) -> None:
        self._count(unreadable=1)
        if why != self._unencodable:  # a camera repeats itself
            self._unencodable = why
            log.warning("image_not_encoded", service=self._spec.name, why=why)


def _wanted(grant: Grant) -> tuple[tuple[int, bool], ...]:
    """What an image is to be encoded for, the planned option first."""
    wanted = [] if grant.option == FLOOR else [(grant.option, False)]
    if grant.probe != FLOOR and grant.probe_bps > 0:
        wanted.append((grant.probe, True))
    return tuple(wanted)
