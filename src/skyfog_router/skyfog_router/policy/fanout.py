"""How many replicas a request is sent to, and when: broadcast, single, k of n, hedged. The default is in `slo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from skyfog_core.config.router import PolicyName
from skyfog_router.policy.actions import Why
from skyfog_router.policy.fleet import Fleet
from skyfog_router.policy.load_budget import LoadBudget
from skyfog_router.policy.replica import Replica

RESCUE = 0.5  # a request more likely to miss than not may have a copy beyond the budget
UNKNOWN_DELAY = 0.1  # of the deadline, to hedge after while no latency is known


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy under way."""

    replica: Replica
    waited_ns: int
    queue_ns: float = 0.0  # of these, for those in front of it there, as far as was known when it was sent

    @property
    def served_ns(self) -> float:
        """How long it has been worked on; less than 0: its turn is still to come."""
        return self.waited_ns - self.queue_ns


@dataclass(frozen=True, slots=True)
class Situation:
    """One request at one moment."""

    now_ns: int
    started_ns: int
    slo_ns: int  # when the SLO is over
    deadline_ns: int
    copies: Sequence[Copy]  # to live replicas; those lost are not among them
    fresh: Sequence[Replica]  # may be asked, the best first
    unfit: Sequence[Replica]  # may be asked too, but are ejected or on trial
    least: int  # copies that the kind of answer needs at once: 1, or a quorum
    room: int  # most copies that may be sent now
    answers: int = 0  # valid ones so far, where more than one is wanted

    @property
    def latest_ns(self) -> int:
        """When the newest copy was sent; the start where there is none."""
        return max((self.now_ns - copy.waited_ns for copy in self.copies), default=self.started_ns)


@dataclass(slots=True)
class Plan:
    """Whom to ask now, and when to look again if no answer came."""

    ask: list[tuple[Replica, Why]] = field(default_factory=list)
    look_ns: int | None = None


class FanOut(Protocol):
    """One policy. Takes tokens for what it asks beyond a first copy."""

    def plan(self, fleet: Fleet, budget: LoadBudget, at: Situation) -> Plan:
        """What to do now."""
        ...


class Broadcast:
    """Everybody at once (FogROS2-FT, arXiv 2412.05408, section IV)."""

    def plan(self, _fleet: Fleet, _budget: LoadBudget, at: Situation) -> Plan:
        return Plan([(replica, "copy" if at.copies or i else "first") for i, replica in enumerate(at.fresh[: at.room])])


class Single:
    """The best one; another only after an error."""

    def plan(self, _fleet: Fleet, _budget: LoadBudget, at: Situation) -> Plan:
        return diverse(at, max(1, at.least))


class KOfN:
    """The best k, in as many zones as there are."""

    def plan(self, fleet: Fleet, _budget: LoadBudget, at: Situation) -> Plan:
        return diverse(at, max(fleet.config.k - at.answers, at.least))


class Hedged:
    """The best one; one more whenever a quantile of the service's latency has passed without an answer."""

    def plan(self, fleet: Fleet, budget: LoadBudget, at: Situation) -> Plan:
        plan = diverse(at, at.least)
        delay_ns = self._delay_ns(fleet, at)
        if not at.copies:
            plan.look_ns = at.now_ns + delay_ns
            return plan
        due_ns = at.latest_ns + delay_ns
        left = without(at.fresh, plan)
        if at.now_ns >= due_ns:
            if left and len(plan.ask) < at.room:
                left_ns, late_ns = at.deadline_ns - at.now_ns, (at.started_ns + at.deadline_ns) // 2
                why = allowed(fleet, budget, at, left_ns, late_ns)
                if why is not None:
                    plan.ask.append((left[0], why))
            due_ns = at.now_ns + delay_ns  # also where nobody is left: somebody may become fit to be asked
        plan.look_ns = due_ns
        return plan

    def _delay_ns(self, fleet: Fleet, at: Situation) -> int:
        known = fleet.pool.quantile(fleet.config.hedge_quantile) if fleet.known() else None
        return max(1, known or round((at.deadline_ns - at.started_ns) * UNKNOWN_DELAY))


def diverse(at: Situation, wanted: int) -> Plan:
    """Up to `wanted` copies in all: the best of a zone without a copy, then of the others."""
    zones = {copy.replica.key.zone for copy in at.copies}
    plan, left = Plan(), list(at.fresh)
    while left and len(plan.ask) < min(at.room, wanted - len(at.copies)):
        replica = next((r for r in left if r.key.zone not in zones), left[0])
        left.remove(replica)
        zones.add(replica.key.zone)
        plan.ask.append((replica, "copy" if at.copies or plan.ask else "first"))
    return plan


def without(replicas: Sequence[Replica], plan: Plan) -> list[Replica]:
    """`replicas` but for those asked in `plan`."""
    asked = {id(replica) for replica, _ in plan.ask}
    return [replica for replica in replicas if id(replica) not in asked]


def misses(copies: Sequence[Copy], left_ns: float) -> list[tuple[str, float]]:
    """For each copy its zone and P(no answer within left_ns | none so far), queues in front of it counted."""
    found = []
    for copy in copies:
        replica, served_ns = copy.replica, copy.served_ns
        found.append((replica.key.zone, replica.survival(served_ns + left_ns) / replica.survival(served_ns)))
    return found


def allowed(fleet: Fleet, budget: LoadBudget, at: Situation, left_ns: int, late_ns: int | None = None) -> Why | None:
    """One more copy now: within the budget, or since the request would otherwise miss; None: no.

    While no latency is known a request counts as missing once it is `late_ns`.
    """
    if budget.take():
        return "hedge"
    if not fleet.known():
        return "rescue" if late_ns is None or at.now_ns >= late_ns else None
    return "rescue" if would_miss(fleet, at, left_ns) else None


def would_miss(fleet: Fleet, at: Situation, left_ns: int) -> bool:
    """Whether the copies under way are more likely than not to give no answer within left_ns."""
    return fleet.zones.all_miss(misses(at.copies, max(0, left_ns))) > RESCUE


def table() -> dict[PolicyName, FanOut]:
    """The policies of this module by name."""
    return {"broadcast": Broadcast(), "single": Single(), "k_of_n": KOfN(), "hedged": Hedged()}
