"""A fan-out chosen per request: P(answer within the SLO) >= target at the least expected extra work.

One copy goes to the best replica at once. Then, at any moment, with `reached` = P(still unanswered now) as it was when
the request began, and left = the time to the SLO:

    P(miss) = reached * all_miss(copies under way; left)                               must be <= 1 - target
    a copy sent d later adds a factor P(that replica takes longer than left - d)       so the miss grows with d
    and costs P(still unanswered at d)                                                 so the work falls with d

The cheapest schedule that keeps the target therefore asks the next replica at the latest d that still keeps it. Where
even d = 0 does not, it is asked now and the one after it is planned the same way. The extra-load budget holds d back:
reached * P(unanswered at d) <= the budget's share. Where the copies under way keep the target by themselves, one more
is asked at the last moment at which it would still be in time, which almost never comes.

With nothing known of the latencies, or in panic, everybody is asked. Without `slo_ms` the SLO is the shortest one for
which the cheapest schedule fits into the extra-load budget. A request that missed its SLO starts over with the next.

What is learnt is never exact, so only a part of 1 - target, the caution, is planned for, and that part follows what
comes of it: it shrinks with a miss and grows with a request in time, such that it stands still where the target is kept
(adaptive conformal inference, Gibbs and Candes, NeurIPS 2021, on a logarithmic scale).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from skyfog_core.config.router import RoutingConfig
from skyfog_core.units import MS, S
from skyfog_router.policy.fanout import Copy, Plan, Situation, allowed, diverse, misses, without
from skyfog_router.policy.fleet import Fleet, Replica
from skyfog_router.policy.load_budget import LoadBudget
from skyfog_router.policy.rank import order

CAUTION, LEAST_CAUTION = 0.7, 0.05
MISSED = 0.85  # what a miss does to the caution; a request in time undoes its part of it
GRID = 32  # moments between now and the SLO at which a copy may be planned
BROKE = 8  # looks a SLO while there is no token for a copy
NEXT = 4  # of the ranked replicas, how many are weighed as the next copy
MOST_COPIES = 6  # that a learnt SLO counts on
LEARN_EVERY_NS = S
LEARN_NEWS = 16  # and only once so large a part of what is known is new, as the sketches themselves
BUDGET_SHARE = 0.9  # the rest is for what replaces lost copies


class Caution:
    """The share of misses to plan for, so that those that come are the target's."""

    def __init__(self) -> None:
        self._part = CAUTION

    def observe(self, in_time: bool, target: float) -> None:
        """What became of one request."""
        aimed = CAUTION * (1.0 - target)  # at the target itself the P99 would lie on the edge
        step = MISSED ** (-aimed / (1.0 - aimed)) if in_time else MISSED
        self._part = min(1.0, max(LEAST_CAUTION, self._part * step))

    def may_miss(self, target: float) -> float:
        """The probability of a miss to plan for."""
        return self._part * (1.0 - target)


class Slo:
    """The default policy."""

    def __init__(self, caution: Caution) -> None:
        self._caution = caution

    def plan(self, fleet: Fleet, budget: LoadBudget, at: Situation) -> Plan:
        if not at.fresh:
            return Plan()
        if not fleet.known() or fleet.panic():
            return self._everybody(fleet, budget, at)
        plan = diverse(at, at.least)
        copies = [*at.copies, *(Copy(replica, 0, replica.wait_ns(at.now_ns)) for replica, _ in plan.ask)]
        left = without(at.fresh, plan)
        whole_ns = max(1, at.slo_ns - at.started_ns)
        left_ns = whole_ns - (at.now_ns - at.started_ns) % whole_ns  # missed: the same again
        while left and len(plan.ask) < at.room:
            one, after_ns = self._next(fleet, budget, copies, left, whole_ns, left_ns, at.now_ns)
            if after_ns > 0:
                plan.look_ns = at.now_ns + after_ns
                break
            moment = Situation(at.now_ns, at.started_ns, at.slo_ns, at.deadline_ns, copies, left, at.least, at.room)
            why = allowed(fleet, budget, moment, left_ns)
            if why is None:
                plan.look_ns = at.now_ns + max(1, left_ns // BROKE)
                break
            plan.ask.append((one, why))
            copies.append(Copy(one, 0, one.wait_ns(at.now_ns)))
            left.remove(one)
        return plan

    def _everybody(self, fleet: Fleet, budget: LoadBudget, at: Situation) -> Plan:
        plan = Plan()
        for replica in at.fresh[: at.room]:
            if not at.copies and not plan.ask:
                plan.ask.append((replica, "first"))
            else:
                plan.ask.append((replica, "copy" if budget.take() else "rescue"))
        return plan

    def _next(
        self,
        fleet: Fleet,
        budget: LoadBudget,
        copies: Sequence[Copy],
        left: Sequence[Replica],
        whole_ns: int,
        left_ns: int,
        now_ns: int,
    ) -> tuple[Replica, int]:
        """Who is asked next, and how long from now; 0: now."""
        zones = fleet.zones
        reached = zones.all_miss([(c.replica.key.zone, c.replica.survival(c.served_ns)) for c in copies])
        may_miss = self._caution.may_miss(fleet.config.slo_target) / reached
        under_way = misses(copies, left_ns)

        found = []
        for replica in left[:NEXT]:
            together = zones.with_one_more(under_way, replica.key.zone)
            found.append((together(replica.survival(left_ns - replica.wait_ns(now_ns))), replica, together))
        best_miss, best, all_miss = min(found, key=itemgetter(0))
        wait_ns = best.wait_ns(now_ns)
        step_ns = left_ns / GRID
        if zones.all_miss(under_way) <= may_miss:
            usual_ns = (best.quantile(0.5) or 0) + wait_ns
            if usual_ns >= whole_ns:  # never in time; it may help once the SLO is missed
                return best, left_ns
            return best, round(left_ns - usual_ns) if left_ns - usual_ns > step_ns else 0
        low, high = 0, GRID if best_miss <= may_miss else 0  # the latest step at which the target is kept, or 0
        while low < high:
            middle = (low + high + 1) // 2
            miss = all_miss(best.survival(left_ns - middle * step_ns - wait_ns))
            low, high = (middle, high) if miss <= may_miss else (low, middle - 1)
        share = budget.ratio * BUDGET_SHARE - (len(copies) - 1 if reached >= 1.0 else 0.0)
        after = max(low, self._pays(fleet, copies, step_ns, share / reached))
        return best, round(after * step_ns) if after > 1 else 0

    def _pays(self, fleet: Fleet, copies: Sequence[Copy], step_ns: float, share: float) -> int:
        """The first step at which few enough requests are still unanswered to pay a copy for each of them."""
        if share >= 1.0:
            return 0
        low, high = 0, GRID
        while low < high:
            middle = (low + high) // 2
            unanswered = fleet.zones.all_miss(misses(copies, middle * step_ns))
            low, high = (low, middle) if unanswered <= max(share, 0.02) else (middle + 1, high)
        return low


class LearntSlo:
    """The shortest SLO that the extra-load budget can pay for, for services that name none."""

    def __init__(self, caution: Caution) -> None:
        self._caution = caution
        self._value_ns: int | None = None
        self._at_ns = -LEARN_EVERY_NS
        self._seen = 0

    def in_force_ns(self, config: RoutingConfig) -> int | None:
        """As set, or as learnt last, ns."""
        return config.slo_ms * MS or self._value_ns

    def get(self, fleet: Fleet, now_ns: int) -> int | None:
        """In ns; None while it is not known."""
        if fleet.config.slo_ms:
            return fleet.config.slo_ms * MS
        if now_ns - self._at_ns >= LEARN_EVERY_NS and fleet.pool.seen - self._seen >= fleet.pool.count / LEARN_NEWS:
            self._at_ns, self._seen = now_ns, fleet.pool.seen
            self._value_ns = self._learn(fleet, now_ns) if fleet.known() else None
        return self._value_ns

    def _learn(self, fleet: Fleet, now_ns: int) -> int | None:
        asked = order(fleet, fleet.fit(now_ns), b"", now_ns)[: min(MOST_COPIES, fleet.config.fan_out)]
        if not asked:
            return self._value_ns
        may_miss = self._caution.may_miss(fleet.config.slo_target)
        low, high = 1.0, float(fleet.config.deadline_ms * MS)
        if self._value_ns is not None:  # seldom far from the last
            near = (self._value_ns / 2, self._value_ns * 2.0)
            low = near[0] if not _affordable(fleet, may_miss, asked, near[0]) else low
            high = near[1] if near[1] < high and _affordable(fleet, may_miss, asked, near[1]) else high
        while high / low > 1.02:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if _affordable(fleet, may_miss, asked, middle) else (middle, high)
        return round(high)


def _affordable(fleet: Fleet, may_miss: float, replicas: Sequence[Replica], slo_ns: float) -> bool:
    """Whether the cheapest schedule for this SLO keeps the target, with as much extra work as the budget brings."""
    zones = fleet.zones
    sent: list[tuple[Replica, float]] = [(replicas[0], 0.0)]
    extra, last_ns = 0.0, 0.0

    def unanswered(at_ns: float, more: Sequence[tuple[Replica, float]] = ()) -> float:
        return zones.all_miss([(r.key.zone, r.survival(at_ns - t)) for r, t in [*sent, *more]])

    for replica in replicas[1:]:
        if unanswered(slo_ns) <= may_miss:
            return True
        low, high = last_ns, slo_ns
        if unanswered(slo_ns, [(replica, last_ns)]) > may_miss:
            high = low
        while high - low > slo_ns / GRID:
            middle = (low + high) / 2
            low, high = (middle, high) if unanswered(slo_ns, [(replica, middle)]) <= may_miss else (low, middle)
        extra += unanswered(low) if low else 1.0
        if extra > fleet.config.extra_load * BUDGET_SHARE:
            return False
        sent.append((replica, low))
        last_ns = low
    return unanswered(slo_ns) <= may_miss
