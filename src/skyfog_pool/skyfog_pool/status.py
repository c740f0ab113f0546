"""What a pool tells of itself: plain values, written once a second, for the command line and for metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Protocol, runtime_checkable

from skyfog_core.units import S
from skyfog_pool.journal import Baseline
from skyfog_pool.keeper import Keeper
from skyfog_pool.lifecycle import State
from skyfog_pool.provider.table import provider_name
from skyfog_pool.spec import parse_stored, service_name
from skyfog_pool.store import Row, Store
from skyfog_pool.work import Work


@runtime_checkable
class Believing(Protocol):
    """A placement that tells what it thinks of zones."""

    def beliefs(self) -> Mapping[str, str]:
        """In a few words, by zone."""
        ...


def document(keeper: Keeper, store: Store, now_ns: int, unix_s: float) -> dict[str, Any]:
    """The pool now."""
    policy, spec = keeper.policy, keeper.wishes.spec
    works = list(keeper.work.values())
    costs, unsaved = store.costs(), keeper.journal.unwritten(work.row for work in works)
    usd_per_hour = sum(keeper.journal.price(work.row) for work in works if _costs(work))
    return {
        "pool": keeper.pool,
        "at_unix": unix_s,
        "wish": keeper.wishes.wish,
        "has_begun": keeper.has_begun,
        "provider": provider_name(spec),
        "service": service_name(spec, keeper.pool),
        "version": keeper.wishes.revision.version,
        "revision": keeper.wishes.revision.revision,
        "source": keeper.wishes.revision.source,
        "target": policy.target,
        "ready": sum(work.who.takes_requests for work in works),
        "placer": spec.service.replica_policy.spot_placer,
        "holding": policy.holding,
        "trouble": keeper.trouble,
        "usd": costs.usd + unsaved.usd,
        "on_demand_usd": keeper.journal.baseline.usd,
        "machine_hours": (costs.seconds + unsaved.seconds) / 3_600,
        "usd_per_hour": usd_per_hour,
        "on_demand_usd_per_hour": policy.target * keeper.journal.on_demand_price(),
        "counts": dict(keeper.journal.counts),
        "replicas": [_replica(keeper, work, now_ns) for work in works],
        "zones": [_zone(keeper, zone, works) for zone in sorted(policy.zones)],
    }


def of_store(pool: str, store: Store) -> dict[str, Any]:
    """What is known of a pool whose controller never told anything."""
    revision, costs = store.revisions()[-1], store.costs()
    spec = parse_stored(revision.spec)
    return {
        "pool": pool,
        "at_unix": revision.at_unix,
        "wish": store.wish(),
        "has_begun": False,
        "provider": provider_name(spec),
        "service": service_name(spec, pool),
        "version": revision.version,
        "revision": revision.revision,
        "source": revision.source,
        "target": spec.service.replica_policy.min_replicas,
        "ready": 0,
        "placer": spec.service.replica_policy.spot_placer,
        "holding": "",
        "trouble": "",
        "usd": costs.usd,
        "on_demand_usd": Baseline.read(store).usd,
        "machine_hours": costs.seconds / 3_600,
        "usd_per_hour": 0.0,
        "on_demand_usd_per_hour": 0.0,
        "counts": {},
        "replicas": [ended(row) for row in store.replicas(live=True)],
        "zones": [],
    }


def ended(row: Row) -> dict[str, Any]:
    """A replica of which nothing but its row is left, in the form of the others."""
    return {
        **_of_row(row),
        "age_s": None if row.ended_unix is None else row.ended_unix - row.decided_unix,
        "state_s": None,
        "notice": None,
        "latency_ms": None,
    }


def _of_row(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "zone": row.zone,
        "market": row.market,
        "state": row.state.value,
        "version": row.version,
        "price_per_hour": row.price_per_hour,
        "usd": row.usd,
        "instance": row.instance,
        "endpoint": row.endpoint,
        "because": row.because,
        "why": row.why,
    }


def _replica(keeper: Keeper, work: Work, now_ns: int) -> dict[str, Any]:
    who = work.who
    why = work.row.why
    if not why and who.state is State.STARTING and work.readiness is not None:
        why = work.readiness.why
    return {
        **_of_row(work.row),
        "why": why,
        "price_per_hour": keeper.journal.price(work.row),
        "age_s": (now_ns - who.launched_ns) / S,
        "state_s": (now_ns - who.since_ns) / S,
        "notice": who.notice.kind if who.notice is not None else None,
        "latency_ms": who.latency_ms,
    }


def _costs(work: Work) -> bool:
    return work.row.started_unix is not None


def _zone(keeper: Keeper, zone: str, works: Sequence[Work]) -> dict[str, Any]:
    policy = keeper.policy
    prices = policy.prices.get(zone)
    beliefs = policy.placement.beliefs() if isinstance(policy.placement, Believing) else {}
    shut = {market: gate.why for (where, market), gate in policy.gates.shut(policy.now_ns).items() if where == zone}
    return {
        "zone": zone,
        "region": policy.zones[zone].region,
        "spot": None if prices is None or not isfinite(prices.spot) else prices.spot,
        "on_demand": None if prices is None or not isfinite(prices.on_demand) else prices.on_demand,
        "replicas": sum(work.row.zone == zone for work in works),
        "belief": beliefs.get(zone, ""),
        "paused": ", ".join(f"{market}: {why}" for market, why in sorted(shut.items())),
    }
