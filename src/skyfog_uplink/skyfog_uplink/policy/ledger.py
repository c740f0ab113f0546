"""What a car's uplink did so far: of each service how its frames ended, what it sent, what it was worth."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from skyfog_core.units import MS, S
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
    def on_time_share(self) -> float:
        """Of frames of which a byte was sent; NaN where there is none."""
        missed = sum(count for outcome, count in self.outcomes.items() if outcome in MISSES)
        tried = missed + self.outcomes.get(Outcome.ON_TIME, 0)
        return self.outcomes.get(Outcome.ON_TIME, 0) / tried if tried else math.nan


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
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    probes: int = 0
    probes_on_time: int = 0
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
        in_time = ended.outcome is Outcome.ON_TIME
        if frame.probe:
            account.probes += 1
            account.probes_on_time += in_time
        else:
            account.outcomes[ended.outcome] += 1
        if in_time:
            service = self._table.services[self._table.index(frame.service)]
            account.answered_ns = now_ns
            gain = max(0.0, service.accuracy(frame.option) - service.floor.accuracy)
            account.credit(frame.captured_ns, gain, now_ns)

    def sent_bps(self, now_ns: int) -> float:
        """All that was put on the link over the last second."""
        return self._sent_bits.total(now_ns)

    def reports(self, plan: Plan, now_ns: int) -> tuple[ServiceReport, ...]:
        """In the table's order."""
        pairs = zip(self._table.services, plan.grants, strict=True)
        return tuple(self._report(service, grant, now_ns) for service, grant in pairs)

    def _report(self, service: Service, grant: Grant, now_ns: int) -> ServiceReport:
        account = self._accounts[service.name]
        gained = account.gained.total(now_ns) / service.rate_hz
        return ServiceReport(
            service=service.name,
            option=grant.option,
            option_name="" if grant.option == FLOOR else service.options[grant.option].name,
            rate_bps=grant.rate_bps,
            sent_bps=account.sent_bits.total(now_ns),
            utility_planned=grant.utility,
            utility=service.weight * (service.floor.accuracy + gained),
            on_floor_s=(now_ns - account.answered_ns) / S,
            outcomes=dict(account.outcomes),
            probes=account.probes,
            probes_on_time=account.probes_on_time,
            why=grant.why,
        )
