"""The pool's replicas by what they are good for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from skyfog_pool.policy.view import Replica


@dataclass(slots=True)
class Census:
    """Leaving and doomed replicas are in none of the lists, nor are those whose state is not known."""

    ready: list[Replica] = field(default_factory=list)  # spot, but for those at risk
    warm: list[Replica] = field(default_factory=list)  # spot: the machine runs, its service does not answer (yet)
    ordered: list[Replica] = field(default_factory=list)  # spot: no machine yet
    at_risk: list[Replica] = field(default_factory=list)  # spot, of use still, and to be replaced
    od_ready: list[Replica] = field(default_factory=list)
    od_warm: list[Replica] = field(default_factory=list)
    od_ordered: list[Replica] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)  # by zone: spot machines that run and are not told to go
    told: dict[str, int] = field(default_factory=dict)  # by zone: spot machines that run and are told to go
    placed: dict[str, int] = field(default_factory=dict)  # by zone: spot replicas of use, ordered ones too
    serving_on: int = 0  # told to go, and taking requests until then

    latency_ms: dict[str, list[float]] = field(default_factory=dict)  # by zone, as robots see its replicas

    @property
    def spot(self) -> int:
        return len(self.ready) + len(self.warm) + len(self.ordered)

    @property
    def on_demand(self) -> int:
        return len(self.od_ready) + len(self.od_warm) + len(self.od_ordered)

    @property
    def takes_requests(self) -> int:
        return len(self.ready) + len(self.od_ready) + sum(replica.is_ready for replica in self.at_risk)

    def stood(self) -> Counter[str]:
        """By zone: replicas of use on both markets that are to stay, ordered ones too."""
        spot, on_demand = (self.ready, self.warm, self.ordered), (self.od_ready, self.od_warm, self.od_ordered)
        return Counter(replica.zone for of in (*spot, *on_demand) for replica in of)

    def by_zone(self) -> dict[str, int]:
        """Spot replicas that are to stay."""
        counts: dict[str, int] = {}
        for replica in (*self.ready, *self.warm, *self.ordered):
            counts[replica.zone] = counts.get(replica.zone, 0) + 1
        return counts


def count(replicas: Iterable[Replica], moving: int | None) -> Census:
    """`moving`: the replica that is to move to another zone."""
    census = Census()
    for replica in replicas:
        spot = replica.market == "spot"
        if spot and replica.started_ns is not None:
            of = census.told if replica.is_doomed else census.held
            of[replica.zone] = of.get(replica.zone, 0) + 1
        if replica.latency_ms is not None:
            census.latency_ms.setdefault(replica.zone, []).append(replica.latency_ms)
        census.serving_on += replica.takes_requests and replica.is_doomed
        if not replica.counts:
            continue
        if spot:
            census.placed[replica.zone] = census.placed.get(replica.zone, 0) + 1
        _list(census, replica, spot, moving).append(replica)
    return census


def _list(census: Census, replica: Replica, spot: bool, moving: int | None) -> list[Replica]:
    if spot and (replica.notice is not None or replica.id == moving):
        return census.at_risk
    if replica.is_ready:
        return census.ready if spot else census.od_ready
    if replica.started_ns is not None:
        return census.warm if spot else census.od_warm
    return census.ordered if spot else census.od_ordered
