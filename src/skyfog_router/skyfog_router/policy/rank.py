"""In which order replicas are asked. Every rule puts suspect replicas after sound ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from skyfog_core.config.router import RankName
from skyfog_router.policy.fleet import Fleet, Replica

MOST_RANKED = 24  # of more replicas a random sample is ranked, and the last winner: power of d choices
UNKNOWN_PRICE = 1e6

Cost = Callable[[Fleet, Replica, int], float]


def peak_ewma(_fleet: Fleet, replica: Replica, now_ns: int) -> float:
    """Expected time of the queue in front of a new request: peak-EWMA latency times requests (Finagle)."""
    return replica.peak_ewma_ns(now_ns) * (len(replica.open) + 1) or float(replica.pool.quantile(0.5) or 0)


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
    per_request = price * max(1.0, replica.service_ns) / replica.said.capacity
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
    if len(replicas) > MOST_RANKED:
        last = fleet.replicas.get(fleet.last_winner) if fleet.last_winner else None
        sample = fleet.random.sample(replicas, MOST_RANKED)
        replicas = sample if last is None or last in sample or last not in replicas else [last, *sample]
    if rule == "sticky":
        return sorted(replicas, key=lambda r: (r.suspect(now_ns), _rendezvous(affinity, r)))
    if rule == "p2c":
        return _two_choices(fleet, replicas, now_ns)
    cost = RULES[rule]
    return sorted(replicas, key=lambda r: (r.suspect(now_ns), cost(fleet, r, now_ns), r.key))


def _rendezvous(affinity: bytes, replica: Replica) -> bytes:
    """Highest random weight: a replica that goes moves only the requests that it had (Thaler and Ravishankar, 1998)."""
    return hashlib.blake2b(affinity + str(replica.key).encode(), digest_size=8).digest()


def _two_choices(fleet: Fleet, replicas: list[Replica], now_ns: int) -> list[Replica]:
    """The less loaded of two drawn at random, then the other, then the rest in random order (Mitzenmacher, 2001)."""
    drawn = fleet.random.sample(replicas, len(replicas))
    pair = sorted(drawn[:2], key=lambda r: (least_in_flight(fleet, r, now_ns), r.key))
    return sorted([*pair, *drawn[2:]], key=lambda r: r.suspect(now_ns))
