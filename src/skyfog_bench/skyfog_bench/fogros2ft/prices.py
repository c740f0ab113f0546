"""What a machine costs, as published, and what a thousand requests cost on it.

Two bills are made. Reserved: each replica is paid for all the time, as one robot with machines of its own pays. Used: a
replica is paid while it works on the robot's requests, as a fleet that shares its replicas pays; there a planner that
is stopped when another one was first costs less than one that goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

SECONDS_AN_HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Price:
    """Of one machine type, USD an hour, with where each figure is from."""

    machine: str
    vcpus: int
    on_demand: float
    on_demand_source: str
    spot: float
    spot_source: str

    @property
    def discount(self) -> float:
        """How many times cheaper spot is."""
        return self.on_demand / self.spot


LIST_PRICE = "AWS list price, Linux, us-east-1, 2022-05-31"
SPOT_DAY = "github ericpauley/aws-spot-price-history @ 489ad94, 2022-05-31, Linux/UNIX, use1 zones, median of"

# One core is what the services were recorded on: two hardware threads.
PRICES = {
    price.machine: price
    for price in (
        Price("c5.large", 2, 0.085, LIST_PRICE, 0.0377, f"{SPOT_DAY} 1"),
        Price("c6i.large", 2, 0.085, LIST_PRICE, 0.0340, f"{SPOT_DAY} 5"),
        Price("c5.9xlarge", 36, 1.530, LIST_PRICE, 0.6902, f"{SPOT_DAY} 4"),
    )
}
MACHINE = "c6i.large"


def reserved_usd(replicas: int, usd_per_hour: float, seconds_a_request: float) -> float:
    """A thousand requests, one every `seconds_a_request`, with all replicas paid for throughout."""
    return 1_000 * replicas * usd_per_hour * seconds_a_request / SECONDS_AN_HOUR


def used_usd(usd_per_hour: float, busy_s_a_request: float) -> float:
    """A thousand requests, each paid for the seconds that machines worked on it, all copies together."""
    return 1_000 * usd_per_hour * busy_s_a_request / SECONDS_AN_HOUR
