"""What a car's uplink does right now, beside the shaper's books: what each service sends, what it is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from skyfog_core.units import MS, S
from skyfog_uplink.policy.books import Books
from skyfog_uplink.policy.frames import MISSES, Ended, Outcome
from skyfog_uplink.policy.model import FLOOR, Service, Table
from skyfog_uplink.policy.plan import Grant, Plan

SLOT_NS = 100 * MS
SLOTS = 10  # a second
REMEMBERED = 32  # images of a service whose worth was counted


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """One service as of now; totals since the start. Fields as in skyfog_interfaces/UplinkServiceState."""

    service: str
    option: int
    option_name: str
    rate_bps: float
    sent_bps: float
    utility_planned: float
    utility: float
    on_floor_s: float
    outcomes: dict[Outcome, int]
    probes: int
    probes_on_time: int
    why: str

    @property
    def frames(self) -> int:
        """Ended ones that were to be offloaded, probes not among them."""
        return sum(self.outcomes.values())

    @property
    def misses(self) -> int:
        """Frames of which a byte was sent in vain."""
        return sum(self.outcomes.get(outcome, 0) for outcome in MISSES)

    @property
    def offloaded(self) -> int:
        """Frames of which a byte was sent."""
        return self.outcomes.get(Outcome.ON_TIME, 0) + self.misses

    @property
    def on_time_share(self) -> float:
        """Of frames of which a byte was sent; NaN where there is none."""
        return self.outcomes.get(Outcome.ON_TIME, 0) / self.offloaded if self.offloaded else math.nan


class LastSecond:
    """A sum over the last second, in steps of a tenth."""

    def __init__(self) -> None:
        self._slots: dict[int, float] = {}

    def add(self, amount: float, now_ns: int) -> None:
        slot = now_ns // SLOT_NS
        self._slots[slot] = self._slots.get(slot, 0.0) + amount
        if len(self._slots) > 2 * SLOTS:
            self._forget(slot)

    def total(self, now_ns: int) -> float:
        self._forget(now_ns // SLOT_NS)
        return sum(self._slots.values())

    def _forget(self, newest: int) -> None:
        self._slots = {slot: amount for slot, amount in self._slots.items() if newest - SLOTS < slot <= newest}


@dataclass(slots=True)
class _Account:
    answered_ns: int  # the last time in time, or the start
    sent_bits: LastSecond = field(default_factory=LastSecond)
    gained: LastSecond = field(default_factory=LastSecond)  # accuracy over the floor's, of images answered in time
    credited: dict[int, float] = field(default_factory=dict)  # of that, by the image's capture; the newest few

    def credit(self, captured_ns: int, gain: float, now_ns: int) -> None:
        """An image may be answered twice, as planned and as a probe; it is worth its best answer."""
        before = self.credited.pop(captured_ns, 0.0)
        self.credited[captured_ns] = max(before, gain)
        self.gained.add(max(0.0, gain - before), now_ns)
        if len(self.credited) > REMEMBERED:
            del self.credited[next(iter(self.credited))]


class Ledger:
    """Told of every chunk sent and every frame that ended."""

    def __init__(self, table: Table, now_ns: int) -> None:
        self._table = table
        self._accounts = {service.name: _Account(now_ns) for service in table.services}
        self._sent_bits = LastSecond()

    def on_sent(self, service: str, size: int, now_ns: int) -> None:
        """A chunk of `size` bytes was put on the link."""
        self._accounts[service].sent_bits.add(8 * size, now_ns)
        self._sent_bits.add(8 * size, now_ns)

    def on_ended(self, ended: Ended, now_ns: int) -> None:
        """A frame is over."""
        frame = ended.frame
        account = self._accounts[frame.service]
        if ended.outcome is Outcome.ON_TIME:
            service = self._table.services[self._table.index(frame.service)]
            account.answered_ns = now_ns
            gain = max(0.0, service.accuracy(frame.option) - service.floor.accuracy)
            account.credit(frame.captured_ns, gain, now_ns)

    def sent_bps(self, now_ns: int) -> float:
        """All that was put on the link over the last second."""
        return self._sent_bits.total(now_ns)

    def reports(self, plan: Plan, books: Books, now_ns: int) -> tuple[ServiceReport, ...]:
        """In the table's order."""
        pairs = zip(self._table.services, plan.grants, strict=True)
        return tuple(self._report(service, grant, books, now_ns) for service, grant in pairs)

    def _report(self, service: Service, grant: Grant, books: Books, now_ns: int) -> ServiceReport:
        account = self._accounts[service.name]
        gained = account.gained.total(now_ns) / service.rate_hz
        probes = books.of(service.name, probe=True)
        return ServiceReport(
            service=service.name,
            option=grant.option,
            option_name="" if grant.option == FLOOR else service.options[grant.option].name,
            rate_bps=grant.rate_bps,
            sent_bps=account.sent_bits.total(now_ns),
            utility_planned=grant.utility,
            utility=service.weight * (service.floor.accuracy + gained),
            on_floor_s=(now_ns - account.answered_ns) / S,
            outcomes=dict(books.of(service.name, probe=False).frames),
            probes=probes.ended,
            probes_on_time=probes.frames[Outcome.ON_TIME],
            why=grant.why,
        )
