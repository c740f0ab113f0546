"""Which replicas go when there are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from skyfog_pool.lifecycle import State
from skyfog_pool.policy.view import Replica, View


def surplus(view: View, among: Iterable[Replica], count: int) -> list[Replica]:
    """`count` of `among` that are to go, first those that are not ready.

    Then the costliest, the slowest as robots see it, the youngest; but never the last one of a zone while another zone
    has more than one to give, so that a zone that fails takes as little as possible.
    """
    if count <= 0:
        return []
    left = [replica for replica in among if replica.counts]
    zones = Counter(replica.zone for replica in view.replicas if replica.counts)
    gone: list[Replica] = []
    while left and len(gone) < count:
        first = [replica for replica in left if not replica.is_ready] or left
        spared = [replica for replica in first if zones[replica.zone] > 1] or first
        worst = max(spared, key=_badness)
        left.remove(worst)
        zones[worst.zone] -= 1
        gone.append(worst)
    return gone


def _badness(replica: Replica) -> tuple[bool, float, float, int, int]:
    starting = replica.state is not State.NOT_READY  # rather give up a launch than one that may answer again
    return starting, replica.price_per_hour, replica.latency_ms or 0.0, replica.launched_ns, replica.id
