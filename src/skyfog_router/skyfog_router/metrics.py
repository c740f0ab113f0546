"""What a robot's router and a replica did, for Prometheus.

Two sources. Totals and states are read from snapshots when somebody scrapes, so that they cost nothing before.
Latencies, sends by reason and ejections are counted as the driver notes them in its trace, which `noting` wraps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from skyfog_core.errors import Overloaded, Status
from skyfog_core.trace import Trace
from skyfog_router.policy.actions import Why
from skyfog_router.policy.admission import Reason
from skyfog_router.policy.snapshot import AdmissionSnapshot, ReplicaSnapshot, ReplicaStateName, ServiceSnapshot

# From a small service on the same host to a planner with half a minute.
_MS = (1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 350, 500, 750, 1_000, 2_000, 5_000, 10_000, 30_000)
DURATION_BUCKETS = tuple(ms / 1_000 for ms in _MS)

Snapshots = Callable[[], Mapping[str, ServiceSnapshot]]
T = TypeVar("T")


class RouterMetrics:
    """The metrics of one robot_proxy, in a registry of their own."""

    def __init__(self, services: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self._durations = Histogram(
            "skyfog_router_request_duration_seconds",
            "From a client's call to its answer, of requests that were answered.",
            ["service"],
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self._sends = Counter(
            "skyfog_router_sends", "Requests to replicas, by why.", ["service", "why"], registry=self.registry
        )
        self._ejections = Counter(
            "skyfog_router_ejections", "Replicas not asked for a while.", ["service"], registry=self.registry
        )
        for service in services:  # a series that is there from the start, so that a rate sees its first step
            self._durations.labels(service)
            self._ejections.labels(service)
            for why in get_args(Why):
                self._sends.labels(service, why)

    def noting(self, trace: Trace) -> Trace:
        """`trace`, with what passes through it counted."""
        return _Noting(self.note, trace)

    def watch(self, snapshots: Snapshots) -> None:
        """Read totals and states from `snapshots` on every scrape."""
        self.registry.register(
            _SnapshotCollector(
                "skyfog_router_up", snapshots, lambda now: itertools.chain(_of_services(now), _of_replicas(now))
            )
        )

    def note(self, event: str, fields: Mapping[str, Any]) -> None:
        """Count one event of the driver's trace."""
        if event == "sent":
            self._sends.labels(fields["service"], fields["why"]).inc()
        elif event == "delivered":
            self._durations.labels(fields["service"]).observe(fields["ms"] / 1e3)
        elif event == "ejected":
            self._ejections.labels(fields["service"]).inc()


class ReplicaMetrics:
    """The metrics of one replica_proxy, in a registry of their own. It has one service, so there are few labels."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        durations = Histogram(
            "skyfog_replica_service_duration_seconds",
            "In the service itself, of runs that gave a result.",
            ["service"],
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self._service = service
        self._durations = durations.labels(service)

    def noting(self, trace: Trace) -> Trace:
        """`trace`, with what passes through it counted."""
        return _Noting(self.note, trace)

    def watch(self, snapshot: Callable[[], AdmissionSnapshot]) -> None:
        """Read totals and states from `snapshot` on every scrape."""
        self.registry.register(
            _SnapshotCollector("skyfog_replica_up", snapshot, lambda now: _of_admission(self._service, now))
        )

    def note(self, event: str, fields: Mapping[str, Any]) -> None:
        """Count one event of the driver's trace."""
        if event == "done" and fields["status"] == Status.OK:
            self._durations.observe(fields["us"] / 1e6)


class _Noting:
    """A Trace that counts on the way."""

    def __init__(self, note: Callable[[str, Mapping[str, Any]], None], trace: Trace) -> None:
        self._note = note
        self._trace = trace

    def event(self, name: str, t_ns: int, **fields: Any) -> None:
        self._note(name, fields)
        self._trace.event(name, t_ns, **fields)

    def close(self) -> None:
        self._trace.close()


# name, help, value: totals of a service
_TOTALS: tuple[tuple[str, str, Callable[[ServiceSnapshot], float]], ...] = (
    ("requests", "Calls by clients.", lambda s: s.called),
    ("extra_sends", "Sends beyond one a request, within the extra-load budget.", lambda s: s.extra),
    ("rescue_sends", "Sends beyond that budget, since the request would have missed.", lambda s: s.rescues),
    ("local_answers", "Answers by the fallback on the robot itself.", lambda s: s.local),
    ("late_replies", "Replies that nobody wanted any more.", lambda s: s.late),
    ("answers_within_slo", "Answers within the latency wanted.", lambda s: s.within_slo),
)
_GAUGES: tuple[tuple[str, str, Callable[[ServiceSnapshot], float | None]], ...] = (
    ("requests_in_flight", "Requests without an outcome yet.", lambda s: s.in_flight),
    ("slo_seconds", "The latency wanted, as set or as learnt.", lambda s: _seconds(s.slo_ms)),
    ("panic", "1 while so few replicas are healthy that all are asked.", lambda s: s.panic),
    ("replicas", "Replicas that are there.", lambda s: len(s.replicas)),
)
_REPLICA_TOTALS: tuple[tuple[str, str, Callable[[ReplicaSnapshot], float]], ...] = (
    ("requests", "Requests to the replica.", lambda r: r.asked),
    ("answers", "Valid replies of the replica.", lambda r: r.answered),
    ("wins", "Replies of the replica that clients got.", lambda r: r.won),
    ("failures", "Requests that the replica refused, failed, or let time out.", lambda r: r.failed),
)
_REPLICA_GAUGES: tuple[tuple[str, str, Callable[[ReplicaSnapshot], float]], ...] = (
    ("requests_in_flight", "Requests of this robot at the replica.", lambda r: r.in_flight),
    ("queue_depth", "Requests waiting at the replica, as last told.", lambda r: r.queue_depth),
    ("price_dollars_per_hour", "What the replica's machine costs, as announced.", lambda r: r.price_per_hour),
)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3


class _SnapshotCollector(Generic[T]):
    """Families made of a snapshot at the time of a scrape; where the driver does not answer, `up` is 0 and alone."""

    def __init__(self, up: str, snapshot: Callable[[], T], families: Callable[[T], Iterable[Metric]]) -> None:
        self._up, self._snapshot, self._families = up, snapshot, families

    def describe(self) -> Iterator[Metric]:
        """Nothing: else the registry would ask for a snapshot when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        try:
            now = self._snapshot()
        except Overloaded:
            yield self._is_up(0.0)
            return
        yield self._is_up(1.0)
        yield from self._families(now)

    def _is_up(self, value: float) -> Metric:
        return GaugeMetricFamily(self._up, "1 where the driver's thread answers.", value=value)


def _of_services(snapshots: Mapping[str, ServiceSnapshot]) -> Iterator[Metric]:
    for name, text, total in _TOTALS:
        counter = CounterMetricFamily(f"skyfog_router_{name}", text, labels=["service"])
        for service, snapshot in snapshots.items():
            counter.add_metric([service], total(snapshot))
        yield counter
    outcomes = CounterMetricFamily(
        "skyfog_router_outcomes",
        "Requests that ended: `delivered`, or the error's name.",
        labels=["service", "outcome"],
    )
    for service, snapshot in snapshots.items():
        outcomes.add_metric([service, "delivered"], snapshot.delivered)
        for kind, count in snapshot.failures.items():
            outcomes.add_metric([service, kind], count)
    yield outcomes
    for name, text, value in _GAUGES:
        gauge = GaugeMetricFamily(f"skyfog_router_{name}", text, labels=["service"])
        for service, snapshot in snapshots.items():
            known = value(snapshot)
            if known is not None:
                gauge.add_metric([service], known)
        yield gauge
    recent = GaugeMetricFamily(
        "skyfog_router_recent_latency_seconds", "Of recent answers.", labels=["service", "quantile"]
    )
    for service, snapshot in snapshots.items():
        _add_quantiles(recent, [service], snapshot)
    yield recent


def _of_replicas(snapshots: Mapping[str, ServiceSnapshot]) -> Iterator[Metric]:
    labels = ["service", "zone", "replica"]
    each = [
        ([service, replica.zone, replica.replica], replica)
        for service, snapshot in snapshots.items()
        for replica in snapshot.replicas
    ]
    for name, text, total in _REPLICA_TOTALS:
        counter = CounterMetricFamily(f"skyfog_router_replica_{name}", text, labels=labels)
        for who, replica in each:
            counter.add_metric(who, total(replica))
        yield counter
    for name, text, value in _REPLICA_GAUGES:
        gauge = GaugeMetricFamily(f"skyfog_router_replica_{name}", text, labels=labels)
        for who, replica in each:
            gauge.add_metric(who, value(replica))
        yield gauge
    states = GaugeMetricFamily("skyfog_router_replica_state", "1 for the state it is in.", labels=[*labels, "state"])
    latencies = GaugeMetricFamily(
        "skyfog_router_replica_latency_seconds", "As the router knows it.", labels=[*labels, "quantile"]
    )
    for who, replica in each:
        for state in get_args(ReplicaStateName):
            states.add_metric([*who, state], float(state == replica.state))
        _add_quantiles(latencies, who, replica)
    yield states
    yield latencies


_ADMISSION: tuple[tuple[str, str, Callable[[AdmissionSnapshot], float]], ...] = (
    ("running", "Requests that run now.", lambda a: a.running),
    ("concurrency", "Requests that may run at once.", lambda a: a.concurrency),
    ("queue_depth", "Requests that wait.", lambda a: a.waiting),
    ("queue_limit", "Requests that may wait.", lambda a: a.max_queue),
)
_ADMISSION_TOTALS: tuple[tuple[str, str, Callable[[AdmissionSnapshot], float]], ...] = (
    ("runs_started", "Runs that began.", lambda a: a.started),
    ("runs_finished", "Runs that ended.", lambda a: a.finished),
    ("runs_failed", "Runs that ended without a result.", lambda a: a.failed),
    ("queries_repeated", "Queries for a request that was here already.", lambda a: a.repeated),
)


def _of_admission(service: str, now: AdmissionSnapshot) -> Iterator[Metric]:
    for name, text, value in _ADMISSION:
        gauge = GaugeMetricFamily(f"skyfog_replica_{name}", text, labels=["service"])
        gauge.add_metric([service], value(now))
        yield gauge
    for name, text, total in _ADMISSION_TOTALS:
        counter = CounterMetricFamily(f"skyfog_replica_{name}", text, labels=["service"])
        counter.add_metric([service], total(now))
        yield counter
    refused = CounterMetricFamily(
        "skyfog_replica_queries_refused", "Queries answered without a run.", labels=["service", "reason"]
    )
    for reason in get_args(Reason):
        refused.add_metric([service, reason], now.refused.get(reason, 0))
    for reason in now.refused.keys() - set(get_args(Reason)):
        refused.add_metric([service, reason], now.refused[reason])
    yield refused


def _add_quantiles(gauge: GaugeMetricFamily, labels: list[str], of: ServiceSnapshot | ReplicaSnapshot) -> None:
    for quantile, milliseconds in (("0.5", of.p50_ms), ("0.99", of.p99_ms)):
        if milliseconds is not None:
            gauge.add_metric([*labels, quantile], milliseconds / 1e3)
