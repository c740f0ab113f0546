"""Link, plan and state as messages and back. Times are the steady clock of whoever holds them, stamps are ROS time."""

from __future__ import annotations

from typing import Any

from skyfog_core.units import S
from skyfog_interfaces.msg import UplinkGrant, UplinkLink, UplinkPlan, UplinkServiceState, UplinkState
from skyfog_uplink.car import CarReport
from skyfog_uplink.policy.frames import Outcome
from skyfog_uplink.policy.ledger import ServiceReport
from skyfog_uplink.policy.link import LEVELS, RTT_LEVELS, LinkState
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Grant, Plan

# Fields that have one name and one meaning in the state and in the message.
_OF_LINK = ("up", "rtt_ms", "rtt_min_ms", "queue_ms", "queue_growth", "loss", "delivered_bps", "in_flight_bytes")
_OF_GRANT = ("service", "option", "rate_bps", "on_time", "utility", "probe", "probe_bps", "why")
_OF_SERVICE = ["service", "option", "option_name", "rate_bps", "sent_bps", "utility_planned", "utility", "on_floor_s"]
_OF_SERVICE += ["frames", "probes", "probes_on_time", "on_time_share", "why"]
_RATES = {f"rate_p{round(100 * level):02d}_bps": LEVELS.index(level) for level in (0.01, 0.05, 0.1, 0.5, 0.9)}
_RTTS = {f"rtt_p{round(100 * level)}_ms": RTT_LEVELS.index(level) for level in (0.5, 0.9, 0.99)}


def link_message(link: LinkState, stamp: Any) -> UplinkLink:
    """What `link_of` reads."""
    return UplinkLink(
        stamp=stamp,
        rates_bps=list(link.rates_bps),
        rtts_ms=list(link.rtts_ms),
        **{name: link.rates_bps[at] for name, at in _RATES.items()},
        **{name: link.rtts_ms[at] for name, at in _RTTS.items()},
        **{name: getattr(link, name) for name in _OF_LINK},
    )


def link_of(message: UplinkLink, now_ns: int) -> LinkState:
    """As of its arrival. Whether it can be planned with, see LinkState.valid."""
    fields = {name: getattr(message, name) for name in _OF_LINK}
    return LinkState(now_ns, rates_bps=tuple(message.rates_bps), rtts_ms=tuple(message.rtts_ms), **fields)


def plan_message(plan: Plan, table: Table, stamp: Any) -> UplinkPlan:
    """What `plan_of` reads."""
    grants = []
    for grant, service in zip(plan.grants, table.services, strict=True):
        name = "" if grant.option == FLOOR else service.options[grant.option].name
        grants.append(UplinkGrant(option_name=name, **{field: getattr(grant, field) for field in _OF_GRANT}))
    return UplinkPlan(
        stamp=stamp,
        number=plan.number,
        table=table.name,
        budget_bps=float(plan.budget_bps),
        utility=float(plan.utility),
        because=plan.because,
        grants=grants,
    )


def plan_of(message: UplinkPlan, now_ns: int) -> Plan:
    """As of its arrival. Whether it can be followed, see policy/follow.py."""
    grants = tuple(Grant(**{field: getattr(grant, field) for field in _OF_GRANT}) for grant in message.grants)
    return Plan(message.number, now_ns, message.budget_bps, grants, message.utility, message.because)


def state_message(report: CarReport, car: str, fleet: str, table: Table, stamp: Any) -> UplinkState:
    """What `state_of` reads."""
    return UplinkState(
        stamp=stamp,
        car=car,
        fleet=fleet,
        table=table.name,
        connected=bool(report.gateway),
        gateway=report.gateway,
        up=report.up,
        plan=report.plan,
        plan_age_s=report.plan_age_s,
        budget_bps=report.budget_bps,
        sent_bps=report.sent_bps,
        services=[_service_message(service) for service in report.services],
    )


def _service_message(report: ServiceReport) -> UplinkServiceState:
    counts = {outcome.value: report.outcomes.get(outcome, 0) for outcome in Outcome}
    return UplinkServiceState(**counts, **{name: getattr(report, name) for name in _OF_SERVICE})


def state_of(message: UplinkState) -> tuple[str, str, str, CarReport]:
    """Car, fleet, table and what `state_message` was given."""
    report = CarReport(
        gateway=message.gateway,
        up=message.up,
        plan=message.plan,
        plan_age_s=message.plan_age_s,
        budget_bps=message.budget_bps,
        sent_bps=message.sent_bps,
        services=tuple(_service_of(service) for service in message.services),
    )
    return message.car, message.fleet, message.table, report


def _service_of(message: UplinkServiceState) -> ServiceReport:
    outcomes = {outcome: count for outcome in Outcome if (count := getattr(message, outcome.value))}
    given = {field: getattr(message, field) for field in ServiceReport.__dataclass_fields__ if field != "outcomes"}
    return ServiceReport(outcomes=outcomes, **given)


def capture_age_ns(stamp: Any, now_ns: int, limit_ns: int) -> int:
    """How old an image is by ROS time, which may jump.

    Zero, as if it was captured when it came, where its stamp is in the future or older than `limit_ns`: then the stamp
    is of another clock, or the clock was set.
    """
    age_ns = int(now_ns - (stamp.sec * S + stamp.nanosec))
    return age_ns if 0 <= age_ns <= limit_ns else 0
