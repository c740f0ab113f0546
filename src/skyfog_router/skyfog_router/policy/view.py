"""One replica's knowledge as plain values."""

from __future__ import annotations

from skyfog_core.units import ns_to_ms
from skyfog_router.policy.health import State
from skyfog_router.policy.replica import Replica
from skyfog_router.policy.snapshot import ReplicaSnapshot, ReplicaStateName


def replica_snapshot(replica: Replica, now_ns: int) -> ReplicaSnapshot:
    """`replica` as those who look see it."""
    state, why = _state(replica, now_ns)
    back_ns = replica.health.until_ns if state == "ejected" else replica.back_ns if state == "backing_off" else now_ns
    return ReplicaSnapshot(
        zone=replica.key.zone,
        replica=replica.key.replica,
        state=state,
        why=why,
        local=replica.said.local,
        price_per_hour=replica.said.price_per_hour,
        capacity=replica.said.capacity,
        in_flight=len(replica.open),
        queue_depth=round(replica.ahead),
        asked=replica.asked,
        answered=replica.answered,
        won=replica.won,
        failed=replica.failed,
        ejections=replica.health.ejections,
        p50_ms=to_ms(replica.sketch.quantile(0.5)),
        p99_ms=to_ms(replica.sketch.quantile(0.99)),
        back_in_ms=ns_to_ms(max(0, back_ns - now_ns)),
    )


def to_ms(ns: int | None) -> float | None:
    """Nanoseconds that may not be known."""
    return None if ns is None else ns_to_ms(ns)


def _state(replica: Replica, now_ns: int) -> tuple[ReplicaStateName, str]:
    health = replica.health
    if health.state is State.EJECTED:
        return "ejected", health.why
    if health.state is State.PROBING:
        return "probing", health.why
    if replica.back_ns > now_ns:
        return "backing_off", "it is overloaded and said when to come again"
    if replica.suspect(now_ns):
        return "suspect", health.why if health.failures else "silent for longer than it ever was"
    return "healthy", ""
