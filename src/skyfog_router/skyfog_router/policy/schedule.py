"""When the next copy of a request should leave: the cheapest schedule that keeps P(miss) small enough.

S(t) of each replica is P(no answer within t). For copies that have been served for e already, d from now:

    U(d)    = all_miss(S(e + d))                                    P(still unanswered at d)
    miss(d) = all_miss(S(e + left), and S(left - d) of new ones)    P(unanswered at the SLO, with new copies sent at d)

Both as they were when the request began, so that one bound holds for all of its life. U falls with d: a copy that is
sent later is sent for fewer requests. miss rises with d. With m new copies the best moment is therefore the latest d
with miss(d) <= may_miss. More of them may leave later, but there are more to pay for: of m = 1, 2, ... the one with the
least U(d) * (1 + (m - 1) / 2) is taken, since a copy after the first is needed for some of these requests only. Just
one is asked then, and the rest is planned anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from skyfog_router.policy.fanout import Copy
from skyfog_router.policy.replica import Replica
from skyfog_router.policy.zones import Zones

GRID = 32  # moments between now and the SLO at which a copy may be planned
MOST_TOGETHER = 4  # new copies that are weighed
CHEAP = 0.1  # U(d) below which more copies are not weighed


@dataclass(frozen=True, slots=True)
class Next:
    """Ask `replica` `after_ns` from now; `unanswered`: the share of requests for which it comes to that."""

    replica: Replica
    after_ns: float
    unanswered: float


def unanswered(zones: Zones, copies: Sequence[Copy], after_ns: float) -> float:
    """U(after_ns)."""
    return zones.all_miss([(c.replica.key.zone, c.replica.survival(c.served_ns + after_ns)) for c in copies])


def nearest(
    zones: Zones, copies: Sequence[Copy], fresh: Sequence[Replica], left_ns: float, now_ns: int
) -> list[Replica]:
    """The first few of `fresh`, that first which helps most if it is asked now."""
    under_way = [(c.replica.key.zone, c.replica.survival(c.served_ns + left_ns)) for c in copies]

    def with_it(replica: Replica) -> float:
        alone = replica.survival(left_ns - replica.wait_ns(now_ns))
        return zones.with_one_more(under_way, replica.key.zone)(alone)

    few = fresh[:MOST_TOGETHER]
    return sorted(few, key=with_it) if len(few) > 1 else list(few)


def next_copy(
    zones: Zones, copies: Sequence[Copy], candidates: Sequence[Replica], left_ns: float, may_miss: float, now_ns: int
) -> Next | None:
    """The next copy of the cheapest schedule; None: not even all candidates at once keep the target."""
    under_way = [(c.replica.key.zone, c.replica.survival(c.served_ns + left_ns)) for c in copies]
    waits_ns = [replica.wait_ns(now_ns) for replica in candidates]
    so_far = zones.all_miss(under_way)
    apart = len({*(zone for zone, _ in under_way), *(r.key.zone for r in candidates)}) == len(copies) + len(candidates)
    best: Next | None = None
    least = float("inf")
    for together in range(1, len(candidates) + 1):
        group = list(zip(candidates[:together], waits_ns, strict=False))

        def miss(step: int, group: Sequence[tuple[Replica, float]] = group) -> float:
            in_time_ns = left_ns - step * left_ns / GRID
            if apart:  # no two share a zone: the product
                return math.prod((r.survival(in_time_ns - w) for r, w in group), start=so_far)
            return zones.all_miss([*under_way, *((r.key.zone, r.survival(in_time_ns - w)) for r, w in group)])

        if miss(0) > may_miss:
            continue
        low, high = 0, GRID
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if miss(middle) <= may_miss else (low, middle - 1)
        share = unanswered(zones, copies, low * left_ns / GRID)
        if share * (1 + (together - 1) / 2) < least:
            best, least = Next(candidates[0], low * left_ns / GRID, share), share * (1 + (together - 1) / 2)
        if share < CHEAP:
            break
    return best


def pays_ns(zones: Zones, copies: Sequence[Copy], left_ns: float, share: float) -> float:
    """The first moment from now at which at most `share` of the requests are still unanswered."""
    low, high = 0, GRID
    while low < high:
        middle = (low + high) // 2
        within = unanswered(zones, copies, middle * left_ns / GRID) <= share
        low, high = (low, middle) if within else (middle + 1, high)
    return low * left_ns / GRID
