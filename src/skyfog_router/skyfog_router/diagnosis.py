"""How well a robot's services and a replica are, for /diagnostics. Pure: snapshots in, levels and words out.

A service of a robot is the worst of these, over the time since it was last looked at:

    ERROR  no replica is there            or  requests ended, and none of them with an answer
    WARN   only the fallback is there     or  some requests failed
           panic                          or  the fallback on the robot answered
           replicas are ejected
    STALE  the router's thread does not answer
    OK     none of these

A replica:

    ERROR  it is linked with nobody
    WARN   it is not announced: it drains, or the service behind it is not there
           it refused requests, or requests failed; what robots withdrew counts as neither
    STALE  its thread does not answer
    OK     none of these
"""

from __future__ import annotations

from collections.abc import Iterator

from skyfog_core.diagnosis import Diagnosis, Finding, Level, worst
from skyfog_router.policy.snapshot import AdmissionSnapshot, ServiceSnapshot

NO_FAULT = frozenset({"withdrawn", "repeated"})  # refusals that say nothing against a replica


def _figure(value: float | None, unit: str = "") -> str:
    return "unknown" if value is None else f"{value:.6g}{unit}"


def of_service(now: ServiceSnapshot, before: ServiceSnapshot | None) -> Diagnosis:
    """One service of a robot. `before` is what the last diagnosis was made of; None: this is the first."""
    return worst(_service_findings(now, before), f"{len(now.replicas)} replicas", _service_values(now))


def _service_findings(now: ServiceSnapshot, before: ServiceSnapshot | None) -> Iterator[Finding]:
    failed = now.failed - (before.failed if before else 0)
    delivered = now.delivered - (before.delivered if before else 0)
    local = now.local - (before.local if before else 0)
    ejected = [replica for replica in now.replicas if replica.state == "ejected"]
    if not now.replicas:
        yield Finding(Level.ERROR, "no replica is there")
    elif all(replica.local for replica in now.replicas):
        yield Finding(Level.WARN, "only the fallback on the robot is there")
    if failed:
        level = Level.WARN if delivered else Level.ERROR
        yield Finding(level, f"{failed} of the last {failed + delivered} requests failed ({_kinds(now, before)})")
    if now.panic:
        yield Finding(Level.WARN, "panic: too few replicas are healthy, so all are asked")
    if local:
        yield Finding(Level.WARN, f"the fallback on the robot answered {local} of the last {failed + delivered}")
    if ejected:
        names = ", ".join(f"{replica.zone}/{replica.replica}: {replica.why}" for replica in ejected)
        yield Finding(Level.WARN, f"{len(ejected)} of {len(now.replicas)} replicas ejected ({names})")


def _kinds(now: ServiceSnapshot, before: ServiceSnapshot | None) -> str:
    """Failures since `before`, by name, most frequent first."""
    earlier = before.failures if before else {}
    counts = {name: count - earlier.get(name, 0) for name, count in now.failures.items()}
    ordered = sorted(((count, name) for name, count in counts.items() if count > 0), key=lambda c: (-c[0], c[1]))
    return ", ".join(f"{count} {name}" for count, name in ordered) or "reason not noted"


def _service_values(now: ServiceSnapshot) -> dict[str, str]:
    values = {
        "policy": now.policy,
        "rank": now.rank,
        "replicas": str(len(now.replicas)),
        "in flight": str(now.in_flight),
        "called": str(now.called),
        "delivered": str(now.delivered),
        "failed": str(now.failed),
        "answered locally": str(now.local),
        "sends": str(now.sends),
        "extra": str(now.extra),
        "rescues": str(now.rescues),
        "slo": _figure(now.slo_ms, " ms"),
        "within slo": str(now.within_slo),
        "p50": _figure(now.p50_ms, " ms"),
        "p99": _figure(now.p99_ms, " ms"),
        "panic": str(now.panic).lower(),
    }
    values |= {f"failed: {name}": str(count) for name, count in sorted(now.failures.items())}
    for replica in now.replicas:
        why = f" ({replica.why})" if replica.why else ""
        values[f"replica {replica.zone}/{replica.replica}"] = f"{replica.state}{why}"
    return values


def of_replica(now: AdmissionSnapshot, before: AdmissionSnapshot | None, absent: str, links: int) -> Diagnosis:
    """A replica. `absent`: why it is not announced, or ""; `links`: processes that it is connected with."""
    values = {
        "announced": str(not absent).lower(),
        "links": str(links),
        "running": f"{now.running} of {now.concurrency}",
        "queue depth": f"{now.waiting} of {now.max_queue}",
        "started": str(now.started),
        "finished": str(now.finished),
        "failed": str(now.failed),
        "repeated": str(now.repeated),
        **{f"refused: {reason}": str(count) for reason, count in sorted(now.refused.items())},
    }
    return worst(_replica_findings(now, before, absent, links), "takes requests", values)


def _replica_findings(
    now: AdmissionSnapshot, before: AdmissionSnapshot | None, absent: str, links: int
) -> Iterator[Finding]:
    if not links:
        yield Finding(Level.ERROR, "linked with nobody")
    if absent:
        yield Finding(Level.WARN, absent)
    failed = now.failed - (before.failed if before else 0)
    if failed:
        finished = now.finished - (before.finished if before else 0)
        yield Finding(Level.WARN, f"{failed} of the last {finished} runs failed")
    earlier = before.refused if before else {}
    refused = {reason: count - earlier.get(reason, 0) for reason, count in sorted(now.refused.items())}
    refused = {reason: count for reason, count in refused.items() if count and reason not in NO_FAULT}
    if refused:
        yield Finding(Level.WARN, "refused " + ", ".join(f"{count} ({reason})" for reason, count in refused.items()))
