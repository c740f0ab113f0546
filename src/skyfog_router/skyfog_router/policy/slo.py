"""A fan-out chosen per request: P(answer within the SLO) >= target at the least expected extra work.

One copy goes to the best replica at once. The next leaves at the latest moment at which the target is still kept
(schedule), but no earlier than the extra-load budget can pay for: when it is sent for few enough requests. Where no
schedule keeps the target, it leaves as soon as that. Where the copies under way keep the target by themselves, one more
is asked at the last moment at which it would still be in time, which almost never comes.

With nothing known of the latencies, or in panic, everybody is asked. Without `slo_ms` the SLO is the shortest one for
which the cheapest schedule fits into the extra-load budget. A request that missed its SLO starts over with the next.

What is learnt is never exact, so only a part of 1 - target, the caution, is planned for, and that part follows what
comes of it: it shrinks with a miss and grows with a request in time, such that it stands still where the target is kept
(adaptive conformal inference, Gibbs and Candes, NeurIPS 2021, on a logarithmic scale).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from skyfog_core.config.router import RoutingConfig
from skyfog_core.units import MS, S
from skyfog_router.policy.fanout import Copy, Plan, Situation, allowed, diverse, without, would_miss
from skyfog_router.policy.fleet import Fleet
from skyfog_router.policy.load_budget import LoadBudget
from skyfog_router.policy.rank import order
from skyfog_router.policy.replica import Replica
from skyfog_router.policy.schedule import GRID, MOST_TOGETHER, nearest, next_copy, pays_ns, unanswered
from skyfog_router.policy.zones import Zones

CAUTION, LEAST_CAUTION = 0.7, 0.05
MISSED = 0.85  # what a miss does to the caution; a request in time undoes its part of it
BROKE = 8  # looks a SLO while there is no token for a copy
MOST_COPIES = 6  # that a learnt SLO counts on
LEARN_EVERY_NS = S
LEARN_NEWS, LEAST_NEWS = 8, 32  # and only once so large a part of what is known is new, and so many observations
LEAST_SHARE = 0.02  # of requests may have a further copy, whatever was spent on them before
LAST_CALL, MOST_LAST_CALL = 0.25, 0.5  # of the deadline, kept for asking everybody; the more where answers take long
AGAIN = 4  # looks in the time that is left
MOST_KEPT = 64  # plans
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

    @property
    def grain(self) -> int:
        """Which of steps of 5 % the caution is in."""
        return round(math.log(self._part) * 20)

    def may_miss(self, target: float) -> float:
        """The probability of a miss to plan for."""
        return self._part * (1.0 - target)


class Slo:
    """The default policy."""

    def __init__(self, caution: Caution) -> None:
        self._caution = caution
        self._kept: dict[object, tuple[Replica, int]] = {}

    def plan(self, fleet: Fleet, budget: LoadBudget, at: Situation) -> Plan:
        if not at.fresh:
            return Plan()
        if not fleet.known() or fleet.panic():
            return self._everybody(budget, at, at.fresh)
        last_ns = self._last_call_ns(fleet, at)
        if at.now_ns >= last_ns and would_miss(fleet, at, at.deadline_ns - at.now_ns):
            return self._everybody(budget, at, [*at.fresh, *at.unfit])
        plan = self._on_schedule(fleet, budget, at)
        # Past the last call too, again and again: what seemed about to answer may stay silent.
        again_ns = last_ns if at.now_ns < last_ns else at.now_ns + max(MS, (at.deadline_ns - at.now_ns) // AGAIN)
        plan.look_ns = again_ns if plan.look_ns is None else min(plan.look_ns, again_ns)
        return plan

    def _on_schedule(self, fleet: Fleet, budget: LoadBudget, at: Situation) -> Plan:
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
            moment = Situation(at.now_ns, at.started_ns, at.slo_ns, at.deadline_ns, copies, left, (), at.least, at.room)
            why = allowed(fleet, budget, moment, left_ns)
            if why is None:
                plan.look_ns = at.now_ns + max(1, left_ns // BROKE)
                break
            plan.ask.append((one, why))
            copies.append(Copy(one, 0, one.wait_ns(at.now_ns)))
            left.remove(one)
        return plan

    def _last_call_ns(self, fleet: Fleet, at: Situation) -> int:
        """From when on a request that would rather fail than not asks everybody, those ejected included."""
        whole_ns = at.deadline_ns - at.started_ns
        keep_ns = max(LAST_CALL * whole_ns, 2.0 * (fleet.pool.quantile(0.99) or 0))
        return at.deadline_ns - round(min(keep_ns, MOST_LAST_CALL * whole_ns))

    def _everybody(self, budget: LoadBudget, at: Situation, replicas: Sequence[Replica]) -> Plan:
        plan = Plan()
        for replica in replicas[: at.room]:
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
        """Who is next, and how long from now; 0: now. Most requests begin alike: their plan is kept for a while."""
        few = left[:MOST_TOGETHER]
        at_first = len(copies) == 1 and left_ns == whole_ns and not copies[0].waited_ns and not copies[0].queue_ns
        if not at_first or any(r.wait_ns(now_ns) for r in few):
            return self._plan_next(fleet, budget, copies, left, whole_ns, left_ns, now_ns)
        replicas = (copies[0].replica, *few)
        epoch = fleet.pool.epoch + sum(replica.sketch.epoch for replica in replicas)
        key = (replicas, whole_ns, epoch, self._caution.grain, budget.ratio, fleet.config.slo_target)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            kept = self._kept[key] = self._plan_next(fleet, budget, copies, left, whole_ns, left_ns, now_ns)
        return kept

    def _plan_next(
        self,
        fleet: Fleet,
        budget: LoadBudget,
        copies: Sequence[Copy],
        left: Sequence[Replica],
        whole_ns: int,
        left_ns: int,
        now_ns: int,
    ) -> tuple[Replica, int]:
        zones = fleet.zones
        may_miss = self._caution.may_miss(fleet.config.slo_target)
        candidates = nearest(zones, copies, left, left_ns, now_ns)
        best = candidates[0]
        if unanswered(zones, copies, left_ns) <= may_miss:
            usual_ns = (best.quantile(0.5) or 0) + best.wait_ns(now_ns)
            # never in time: it may help once the SLO is missed
            after_ns = float(left_ns) if usual_ns >= whole_ns else left_ns - usual_ns
        else:
            planned = next_copy(zones, copies, candidates, left_ns, may_miss, now_ns)
            share = max(LEAST_SHARE, budget.ratio * BUDGET_SHARE - _spent(zones, copies))
            after_ns = max(planned.after_ns if planned else 0.0, pays_ns(zones, copies, left_ns, share))
        return best, round(after_ns) if after_ns > left_ns / GRID else 0


def _spent(zones: Zones, copies: Sequence[Copy]) -> float:
    """What the copies beyond the first of all requests like this one cost, in copies a request."""
    oldest = sorted(copies, key=lambda copy: -copy.waited_ns)
    spent = 0.0
    for i, copy in enumerate(oldest[1:], start=1):
        spent += zones.all_miss(
            [(c.replica.key.zone, c.replica.survival(c.served_ns - copy.waited_ns)) for c in oldest[:i]]
        )
    return spent


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
        news, enough = fleet.pool.seen - self._seen, fleet.pool.count / LEARN_NEWS
        if self._value_ns is not None:  # not at every call of a robot that calls seldom: it costs as much as ten
            enough = max(enough, LEAST_NEWS)
        if now_ns - self._at_ns >= LEARN_EVERY_NS and news >= enough:
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
            low = near[0] if not _affordable(fleet, may_miss, asked, near[0], now_ns) else low
            high = near[1] if near[1] < high and _affordable(fleet, may_miss, asked, near[1], now_ns) else high
        while high / low > 1.04:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if _affordable(fleet, may_miss, asked, middle, now_ns) else (middle, high)
        return round(high)


def _affordable(fleet: Fleet, may_miss: float, replicas: Sequence[Replica], slo_ns: float, now_ns: int) -> bool:
    """Whether the cheapest schedule for this SLO keeps the target, with as much extra work as the budget brings."""
    zones, passed_ns, extra = fleet.zones, 0.0, 0.0
    copies, left = [Copy(replicas[0], 0)], list(replicas[1:])
    while unanswered(zones, copies, slo_ns - passed_ns) > may_miss:
        candidates = nearest(zones, copies, left, slo_ns - passed_ns, now_ns)
        planned = next_copy(zones, copies, candidates, slo_ns - passed_ns, may_miss, now_ns) if candidates else None
        if planned is None:
            return False
        extra += planned.unanswered
        if extra > fleet.config.extra_load * BUDGET_SHARE:
            return False
        passed_ns += planned.after_ns
        copies = [Copy(copy.replica, round(copy.waited_ns + planned.after_ns)) for copy in copies]
        copies.append(Copy(planned.replica, 0))
        left.remove(planned.replica)
    return True
