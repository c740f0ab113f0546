"""What `skyfog uplink status` prints. Pure: reports in, tables out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from skyfog_bringup.tables import NONE, milliseconds, new_table, percent
from skyfog_uplink.car import CarReport
from skyfog_uplink.policy.frames import MISSES, Outcome
from skyfog_uplink.policy.ledger import ServiceReport
from skyfog_uplink.policy.link import LEVELS, LinkState

ON_FLOOR_S = 2.0  # a service that was in the cloud so lately is not called on the floor
LOW, MIDDLE = LEVELS.index(0.05), LEVELS.index(0.5)


@dataclass(frozen=True, slots=True)
class Part:
    """One message of a car: its state, or its link's. `where` is the shaper's name."""

    where: str
    car: str = ""
    fleet: str = ""
    table: str = ""
    report: CarReport | None = None
    link: LinkState | None = None


@dataclass(frozen=True, slots=True)
class UplinkReport:
    """One car."""

    car: str
    fleet: str
    table: str
    report: CarReport
    link: LinkState | None  # None: not heard lately


def joined(parts: Sequence[Part]) -> list[UplinkReport]:
    """States with the links of the same shaper; a link alone tells nothing of services."""
    links = {part.where: part.link for part in parts if part.link is not None}
    return [
        UplinkReport(part.car, part.fleet, part.table, part.report, links.get(part.where))
        for part in parts
        if part.report is not None
    ]


def status_table(reports: Sequence[UplinkReport]) -> Group:
    """A line a car, one row a car and service, and a line for each service that is on the floor."""
    numbers = ("Mbit/s", "granted", "utility", "frames", "on time", "missed", "not sent", "probes", "on floor s")
    table = new_table(("car", "service", "option"), numbers, "misses")
    lines, floors = [], []
    for report in reports:
        lines.append(_car_line(report))
        for service in report.report.services:
            _service_row(table, report.car, service)
            if service.on_floor_s >= ON_FLOOR_S:
                why = service.why or "no frame was answered in time"
                floors.append(Text(f"{report.car} {service.service}: {service.on_floor_s:,.0f} s on the floor: {why}"))
    for line in floors:
        line.stylize("yellow")
    return Group(*lines, table, *floors)


def _car_line(report: UplinkReport) -> Text:
    now, link = report.report, report.link
    words = [report.car, f"gateway {now.gateway}" if now.gateway else "no gateway"]
    if link is not None and link.up:
        rates = f"{link.rates_bps[LOW] / 1e6:.3g} to {link.rates_bps[MIDDLE] / 1e6:.3g} Mbit/s"
        words.append(f"link {rates} (p5 to p50), round trip {milliseconds(link.rtt_ms)} ms")
        words.append(f"queue {milliseconds(link.queue_ms)} ms, loss {percent(link.loss, 1.0)}")
    else:
        words.append("link down")
    planned = f"plan {now.plan} of {now.budget_bps / 1e6:.3g} Mbit/s" if now.plan else "no plan: all on the floor"
    words.append(f"{planned}, {now.sent_bps / 1e6:.3g} Mbit/s sent")
    well = bool(now.gateway and now.up and now.plan)
    return Text(", ".join(words), style="green" if well else "yellow")


def _service_row(table: Table, car: str, service: ServiceReport) -> None:
    unsent = service.outcomes.get(Outcome.WITHHELD, 0) + service.outcomes.get(Outcome.REPLACED, 0)
    on_floor = service.on_floor_s >= ON_FLOOR_S
    table.add_row(
        car,
        service.service,
        service.option_name or Text("floor", style="yellow"),
        f"{service.sent_bps / 1e6:.3g}",
        f"{service.rate_bps / 1e6:.3g}",
        f"{service.utility:.3f}",
        f"{service.frames:,}",
        percent(service.outcomes.get(Outcome.ON_TIME, 0), service.offloaded),
        Text(f"{service.misses:,}", style="red" if service.misses else ""),
        f"{unsent:,}",
        f"{service.probes_on_time:,}/{service.probes:,}",
        Text(f"{service.on_floor_s:,.0f}", style="yellow") if on_floor else NONE,
        _causes(service),
    )


def _causes(service: ServiceReport) -> str:
    found = [(count, outcome.value) for outcome, count in service.outcomes.items() if outcome in MISSES and count]
    return ", ".join(f"{count:,} {cause}" for count, cause in sorted(found, reverse=True)) or NONE


def plain(reports: Sequence[UplinkReport]) -> list[dict[str, Any]]:
    """The reports as JSON: what is unknown is null, outcomes by name."""
    return [_plain(dataclasses.asdict(report)) for report in reports]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.value if isinstance(key, Outcome) else key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
