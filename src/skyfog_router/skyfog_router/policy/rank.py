"""In which order replicas are asked. Every rule puts suspect replicas after sound ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from skyfog_core.config.router import RankName
from skyfog_router.policy.fleet import Fleet
from skyfog_router.policy.replica import Replica

MOST_RANKED = 12  # of more replicas a random sample is ranked, and the last winner: power of d choices
UNKNOWN_QUANTILE = 0.25  # of the service: where nobody is tried on the side, the unknown are hoped to be good
UNKNOWN_PRICE = 1e6

Cost = Callable[[Fleet, Replica, int], float]


def peak_ewma(fleet: Fleet, replica: Replica, now_ns: int) -> float:
    """Expected time of the queue in front of a new request: peak-EWMA latency times requests (Finagle)."""
    hoped_ns = replica.pool.quantile(0.5 if fleet.learns else UNKNOWN_QUANTILE) or 0.0
    latency_ns = replica.peak_ewma_ns(now_ns) or hoped_ns
    return latency_ns * (len(replica.open) + 1)


def quantile(fleet: Fleet, replica: Replica, now_ns: int) -> float:
    """The latency that the SLO's share of its requests stays within, and its queue."""
    found = replica.quantile(fleet.config.slo_target)
    return replica.wait_ns(now_ns) + (float("inf") if found is None else found)


def least_in_flight(_fleet: Fleet, replica: Replica, now_ns: int) -> float:
    """Fewest requests of this robot under way, by the replica's capacity; ties by latency."""
    return len(replica.open) / replica.said.capacity + replica.peak_ewma_ns(now_ns) * 1e-15


def zone_aware(fleet: Fleet, replica: Replica, now_ns: int) -> float:
    """The robot's own zone first, then by peak-EWMA."""
    away = 0.0 if replica.key.zone == fleet.zone else 1e15
    return away + peak_ewma(fleet, replica, now_ns)


def price_aware(fleet: Fleet, replica: Replica, now_ns: int) -> float:
    """The cheapest request first: price of the machine's time for one, where it meets the SLO more often than not."""
    price = replica.said.price_per_hour or UNKNOWN_PRICE
    usual_ns = replica.quantile(0.5) or 0
    late = fleet.config.slo_ms and usual_ns + replica.wait_ns(now_ns) > fleet.config.slo_ms * 1e6
    service_ns = replica.service_ns or replica.pool.quantile(0.5) or 1
    per_request = price * service_ns / replica.said.capacity
    return per_request + (1e21 if late else 0.0)


RULES: dict[RankName, Cost] = {
    "peak_ewma": peak_ewma,
    "quantile": quantile,
    "least_in_flight": least_in_flight,
    "zone_aware": zone_aware,
    "price_aware": price_aware,
}


def order(fleet: Fleet, replicas: list[Replica], affinity: bytes, now_ns: int) -> list[Replica]:
    """`replicas` with the one to be asked first in front."""
    rule = fleet.config.rank
    if rule == "sticky":
        robot = int.from_bytes(hashlib.blake2b(affinity, digest_size=8).digest())
        return sorted(replicas, key=lambda r: (r.suspect(now_ns), _rendezvous(robot, r), r.key))
    if len(replicas) > MOST_RANKED:
        last = fleet.replicas.get(fleet.last_winner) if fleet.last_winner else None
        sample = fleet.random.sample(replicas, MOST_RANKED)
        replicas = sample if last is None or last in sample or last not in replicas else [last, *sample]
    if rule == "p2c":
        return _two_choices(fleet, replicas, now_ns)
    cost = RULES[rule]
    found = [(r.suspect(now_ns), cost(fleet, r, now_ns), r.key, r) for r in replicas]
    found.sort()  # keys differ, so that replicas are never compared
    return [one[3] for one in found]


def _rendezvous(affinity: int, replica: Replica) -> int:
    """Highest random weight: a replica that goes moves only the requests that it had (Thaler and Ravishankar, 1998)."""
    mixed = affinity ^ replica.weight
    for _ in range(2):  # the finish of SplitMix64 (Steele et al., 2014): a hash of both, without one a replica and call
        mixed = (mixed ^ mixed >> 31) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 31


def _two_choices(fleet: Fleet, replicas: list[Replica], now_ns: int) -> list[Replica]:
    """The less loaded of two drawn at random, then the other, then the rest in random order (Mitzenmacher, 2001)."""
    drawn = fleet.random.sample(replicas, len(replicas))
    pair = sorted(drawn[:2], key=lambda r: least_in_flight(fleet, r, now_ns))  # ties as drawn
    return sorted([*pair, *drawn[2:]], key=lambda r: r.suspect(now_ns))
