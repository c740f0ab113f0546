"""Follows an allocator's plans: the newest is in force until it is too old; then, and before the first, the floor is.

Shaper and car client each follow for themselves, so that a car whose allocator died runs on its own models soon.
"""

from __future__ import annotations

import math

from skyfog_core.errors import InvalidReply
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Grant, Plan

NO_PLAN = "no allocator told a plan lately"


def floor_plan(table: Table, now_ns: int, why: str = NO_PLAN, number: int = 0) -> Plan:
    """Every service on the model of the car."""
    grants = tuple(
        Grant(service.name, utility=service.weight * service.floor.accuracy, why=why) for service in table.services
    )
    return Plan(number, now_ns, 0.0, grants, sum(grant.utility for grant in grants), why)


def check_plan(plan: Plan, table: Table) -> None:
    """Raise InvalidReply for a plan that was not made for this table, or that no allocator can have meant."""
    services = [service.name for service in table.services]
    granted = [grant.service for grant in plan.grants]
    if granted != services:
        raise InvalidReply(
            f"the plan is for {', '.join(granted) or 'nobody'}, the table {table.name} has {', '.join(services)}: "
            "allocator, shaper and car_client need the same file"
        )
    for grant, service in zip(plan.grants, table.services, strict=True):
        if not all(FLOOR <= option < len(service.options) for option in (grant.option, grant.probe)):
            raise InvalidReply(f"{service.name}: option {grant.option} or probe {grant.probe} is not in the table")
    numbers = [plan.budget_bps, *(rate for grant in plan.grants for rate in (grant.rate_bps, grant.probe_bps))]
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise InvalidReply(f"the plan's rates are no rates: {numbers}")
    try:
        plan.check()
    except AssertionError:
        raise InvalidReply(f"the plan grants more than its budget of {plan.budget_bps:.0f} bit/s") from None


class PlanFollower:
    """Which plan is in force."""

    def __init__(self, table: Table, stale_ns: int, now_ns: int) -> None:
        """`stale_ns`: a plan told longer ago is in force no more."""
        self._table = table
        self._stale_ns = stale_ns
        self._heard_ns: int | None = None
        self._plan = floor_plan(table, now_ns)

    @property
    def plan(self) -> Plan:
        """As of the last event."""
        return self._plan

    def age_ns(self, now_ns: int) -> int | None:
        """Since the plan in force was last told; None where none is."""
        return None if self._heard_ns is None else now_ns - self._heard_ns

    def on_plan(self, plan: Plan, now_ns: int) -> bool:
        """Whether something else is in force now. Raises InvalidReply, and then goes on as before."""
        check_plan(plan, self._table)
        self._heard_ns = now_ns
        changed = (plan.number, plan.grants) != (self._plan.number, self._plan.grants)
        self._plan = plan if changed else self._plan
        return changed

    def on_timer(self, now_ns: int) -> bool:
        """Whether the plan in force has become too old just now."""
        due_ns = self.next_timer_ns()
        if due_ns is None or now_ns < due_ns:
            return False
        self._heard_ns = None
        self._plan = floor_plan(self._table, now_ns)
        return True

    def next_timer_ns(self) -> int | None:
        """When the plan in force becomes too old."""
        return None if self._heard_ns is None else self._heard_ns + self._stale_ns
