"""How well a car's uplink is, for /diagnostics. Pure: reports in, levels and words out.

allocator  WARN   a service has been on the floor for longer than floor_warn_s: why
           WARN   an outage; nobody tells the link's state
shaper     WARN   no gateway is there; no plan is in force; frames were missed since the last report
client     ERROR  the car's own model does not answer
           WARN   the camera is silent; the shaper does not answer
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from skyfog_core.diagnosis import Diagnosis, Finding, Level, worst
from skyfog_core.units import S
from skyfog_uplink.car import CarReport
from skyfog_uplink.policy.ledger import ServiceReport
from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.plan import Plan

LINK_AGE_S = 1.0
MISS_SHARE = 0.01  # of frames sent; what the plan promises to keep below


def of_car(now: CarReport, before: CarReport | None) -> Diagnosis:
    """The car's end of the uplink. `before`: what the last diagnosis was made of; None: this is the first."""
    values = {
        "gateway": now.gateway or "none",
        "link": "up" if now.up else "down",
        "plan": str(now.plan),
        "plan age": f"{now.plan_age_s:.3g} s",
        "budget": f"{now.budget_bps / 1e6:.4g} Mbit/s",
        "sent": f"{now.sent_bps / 1e6:.4g} Mbit/s",
    }
    for service in now.services:
        values[service.service] = f"{service.option_name or 'floor'} {service.rate_bps / 1e6:.4g} Mbit/s"
    return worst(_car_findings(now, before), f"{len(now.services)} services share the link", values)


def _car_findings(now: CarReport, before: CarReport | None) -> Iterator[Finding]:
    if not now.gateway:
        yield Finding(Level.WARN, "no gateway is there: the car runs on its own models")
    if not now.plan:
        yield Finding(Level.WARN, "no plan is in force: is the allocator running?")
    for at, service in enumerate(now.services):
        sent, missed = _since(service, None if before is None else before.services[at])
        if missed > max(1.0, MISS_SHARE * sent):
            yield Finding(Level.WARN, f"{service.service}: {missed} of the last {sent} frames sent were missed")


def _since(now: ServiceReport, before: ServiceReport | None) -> tuple[int, int]:
    """Frames of which a byte was sent, and those of them that were missed, since `before`."""
    sent, missed = (0, 0) if before is None else (before.offloaded, before.misses)
    return now.offloaded - sent, now.misses - missed


class Floors:
    """Since when each service is on the floor, by the plans."""

    def __init__(self) -> None:
        self._since_ns: dict[str, int] = {}

    def on_plan(self, plan: Plan, now_ns: int) -> None:
        """Take note of who has a cloud option and who has not."""
        for grant in plan.grants:
            if grant.option == FLOOR:
                self._since_ns.setdefault(grant.service, now_ns)
            else:
                self._since_ns.pop(grant.service, None)

    def seconds(self, service: str, now_ns: int) -> float:
        """Zero for a service that has a cloud option."""
        return (now_ns - self._since_ns.get(service, now_ns)) / S


def of_link(age_s: float, up: bool) -> Diagnosis:
    """The link as the allocator hears of it. `age_s`: since its state was last told; inf: never was."""
    return worst(_link_findings(age_s, up), "up", {"age": f"{age_s:.3g} s"})


def of_plan(plan: Plan, floors: Floors, warn_s: float, now_ns: int) -> dict[str, Diagnosis]:
    """Each service, by its name."""
    found = {}
    for grant in plan.grants:
        on_floor_s = floors.seconds(grant.service, now_ns)
        values = {
            "option": str(grant.option),
            "rate": f"{grant.rate_bps / 1e6:.4g} Mbit/s",
            "on time": f"{grant.on_time:.4g}",
            "utility": f"{grant.utility:.4g}",
            "on floor": f"{on_floor_s:.3g} s",
        }
        why = f"on the model of the car for {on_floor_s:.0f} s: {grant.why or plan.because}"
        findings = [Finding(Level.WARN, why)] if on_floor_s > warn_s else []
        found[grant.service] = worst(findings, "on its way" if grant.option == FLOOR else "in the cloud", values)
    return found


def _link_findings(age_s: float, up: bool) -> Iterator[Finding]:
    if age_s > LINK_AGE_S:
        age = "never" if math.isinf(age_s) else f"not for {age_s:.0f} s"
        yield Finding(Level.WARN, f"nobody told the link's state, {age}: is the shaper running?")
    elif not up:
        yield Finding(Level.WARN, "outage: all services are on the models of the car")


@dataclass(frozen=True, slots=True)
class ClientReport:
    """What a car_client counted since its start, and how it is."""

    images: int = 0  # that were taken
    surplus: int = 0  # left out: the camera is faster than the option table says
    unreadable: int = 0  # of an encoding that is not known
    skipped: int = 0  # newer ones came while the encoder was busy
    offered: int = 0  # to the shaper
    car: int = 0  # answers of the car's own model
    car_failed: int = 0  # no answer, or none in its time
    cloud: int = 0  # answers of the cloud that were in time
    missed: int = 0  # images without any answer by their deadline
    image_age_s: float = math.inf  # since the last image
    shaper: bool = False  # whether its service is there


def of_client(now: ClientReport, before: ClientReport | None, silent_s: float) -> Diagnosis:
    """One service of the car. A camera that is silent for longer than `silent_s` is a finding."""
    values = {name: f"{getattr(now, name):.6g}" for name in ClientReport.__dataclass_fields__}
    return worst(_client_findings(now, before or ClientReport(), silent_s), "answered", values)


def _client_findings(now: ClientReport, before: ClientReport, silent_s: float) -> Iterator[Finding]:
    failed, answered = now.car_failed - before.car_failed, now.car - before.car
    if failed:
        level = Level.WARN if answered else Level.ERROR
        text = f"the model on the car failed {failed} of the last {failed + answered} frames"
        yield Finding(level, text)
    if missed := now.missed - before.missed:
        yield Finding(Level.WARN, f"{missed} images had no answer by their deadline, not even the car's own")
    if now.image_age_s > silent_s:
        age = "no image yet" if math.isinf(now.image_age_s) else f"no image for {now.image_age_s:.1f} s"
        yield Finding(Level.WARN, f"{age}: is the camera running?")
    if unreadable := now.unreadable - before.unreadable:
        yield Finding(Level.ERROR, f"{unreadable} images could not be read")
    if not now.shaper:
        yield Finding(Level.WARN, "the shaper is not there: the car's own model alone answers")
