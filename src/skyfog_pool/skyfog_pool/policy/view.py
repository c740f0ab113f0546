"""What a strategy sees when it decides, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_pool.lifecycle import LAUNCHING, SERVING, State
from skyfog_pool.policy.market import Market, MarketEvent, Notice, Prices, Zone


@dataclass(slots=True)
class Replica:
    """One replica in the books. Only the pool's policy changes it."""

    id: int
    zone: str
    market: Market
    version: int
    state: State
    since_ns: int  # in this state
    launched_ns: int  # when it was decided
    started_ns: int | None = None  # when its machine began to run, and to cost
    ready_ns: int | None = None  # first time
    ended_ns: int | None = None
    notice: Notice | None = None
    latency_ms: float | None = None  # median of its answers as robots see it
    drain_by_ns: int | None = None
    ending: State | None = None  # how it ends once its machine is back; none: TERMINATED
    cleanups: int = 0  # times that the provider did not take the machine back
    retry_ns: int | None = None  # when it is asked back again
    replaces: int | None = None  # the replica of an older version whose place it takes once it is ready
    price_per_hour: float = 0.0  # USD, of its machine, now
    billed_ns: int | None = None  # up to when it is in the books of costs
    machine_ns: int = 0  # in the books
    usd: float = 0.0  # in the books

    @property
    def is_ready(self) -> bool:
        """Takes requests, and no notice says that it is about to go."""
        return self.takes_requests and (self.notice is None or not self.is_doomed)

    @property
    def takes_requests(self) -> bool:
        """Also one that is about to go, and serves until then."""
        return self.state is State.READY

    @property
    def is_launching(self) -> bool:
        return self.state in LAUNCHING and not self.is_doomed

    @property
    def is_doomed(self) -> bool:
        """The market has said that it takes the machine."""
        return self.notice is not None and self.notice.kind == "interruption"

    @property
    def counts(self) -> bool:
        """Is, or is to be, of use."""
        return self.state in SERVING and (self.notice is None or not self.is_doomed)


@dataclass(frozen=True, slots=True)
class Load:
    """What the fleet says of a service over the last `window_ns`: routers of demand and latency, replicas of queues."""

    window_ns: int
    requests: int = 0  # that robots made, each counted once however many copies were sent
    queued: int = 0  # waiting at replicas, now
    running: int = 0  # running at replicas, now
    p50_ms: float | None = None  # as robots see it
    p99_ms: float | None = None
    over_slo: float | None = None  # share of requests that came too late or failed
    service_ms: float | None = None  # mean on a replica
    latency_ms: Mapping[int, float] | None = None  # median by replica, as robots see it


@dataclass(frozen=True, slots=True)
class View:
    """The pool now. `replicas` are those that may hold a machine, by id; of the older versions too.

    A price is infinite where a market is not offered, or nothing is launched there for now after launches failed. While
    a new version rolls out, a replica and the one that is to take its place are one: the older, until that is ready.
    """

    target: int  # replicas wanted ready
    replicas: Sequence[Replica]
    zones: Mapping[str, Zone]
    prices: Mapping[str, Prices]
    config: ReplicaPolicyConfig
    use_spot: bool
    load: Load | None = None
    waits: Mapping[str, float] = field(default_factory=dict)  # spot price where orders wait after want of capacity

    def of(self, market: Market) -> list[Replica]:
        """Those of a market that count."""
        return [replica for replica in self.replicas if replica.counts and replica.market == market]

    def offered(self, market: Market) -> list[str]:
        """Zones in which a machine can be asked for, by name."""
        return sorted(zone for zone, price in self.prices.items() if price.of(market) < inf)

    def ready(self, market: Market | None = None) -> int:
        """How many take requests."""
        return sum(replica.is_ready and market in {None, replica.market} for replica in self.replicas)


@dataclass(frozen=True, slots=True)
class Start:
    """Launch one replica."""

    zone: str
    market: Market
    because: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Drain one replica and give its machine back."""

    replica: int
    because: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to change now; `again_ns`: when to ask again though nothing happens."""

    start: tuple[Start, ...] = ()
    retire: tuple[Retire, ...] = ()
    again_ns: int | None = None


class Placement(Protocol):
    """A strategy: how many beyond the target, where, and on which market. Pure; the pool's policy owns it."""

    def observe(self, event: MarketEvent, now_ns: int) -> None:
        """Learn from what happened."""
        ...

    def decide(self, view: View, now_ns: int) -> Plan:
        """What to start and what to retire. Called after every event; must be idempotent where nothing changed.

        The pool may leave part of it undone: what would pass a bound, and the end of a ready replica that would leave
        fewer ready than the target. It asks again after the next event.
        """
        ...

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """What it has learnt, as plain data for JSON; times as ages: steady time begins anew with each process."""
        ...

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        """Take up what `snapshot` gave. Zones that are unknown now are skipped."""
        ...
