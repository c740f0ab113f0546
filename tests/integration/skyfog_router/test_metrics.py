"""Prometheus metrics: what is counted, what is read from snapshots, and that they are served and stop."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from skyfog_core.errors import ConfigError, Overloaded
from skyfog_core.trace import MemoryTrace
from skyfog_router.metrics import ReplicaMetrics, RouterMetrics
from skyfog_router.metrics_server import MetricsServer
from skyfog_router.policy.snapshot import ServiceSnapshot
from support.snapshots import admission, replica, service

LIMIT_S = 10.0


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels; the text must be what Prometheus's own parser reads."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def value(metrics: RouterMetrics | ReplicaMetrics, name: str, **labels: str) -> float | None:
    return samples(generate_latest(metrics.registry).decode()).get((name, frozenset(labels.items())))


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=LIMIT_S) as response:
        assert response.status == 200
        return response.read().decode()


@pytest.fixture
def metrics() -> RouterMetrics:
    return RouterMetrics(["/detect"])


def test_sends_ejections_and_latencies_are_counted_as_they_are_noted(metrics: RouterMetrics) -> None:
    inner = MemoryTrace()
    trace = metrics.noting(inner)
    for why in ("first", "hedge", "hedge"):
        trace.event("sent", 1, id="00", service="/detect", replica="a/0", why=why, budget_ms=5)
    trace.event("ejected", 2, service="/detect", replica="a/0", why="x")
    trace.event("delivered", 3, id="00", service="/detect", replica="a/0", ms=42.0)
    trace.event("joined", 4, service="/detect", replica="b/0")
    assert value(metrics, "skyfog_router_sends_total", service="/detect", why="hedge") == 2
    assert value(metrics, "skyfog_router_sends_total", service="/detect", why="rescue") == 0
    assert value(metrics, "skyfog_router_ejections_total", service="/detect") == 1
    bucket = "skyfog_router_request_duration_seconds_bucket"
    assert value(metrics, bucket, service="/detect", le="0.035") == 0
    assert value(metrics, bucket, service="/detect", le="0.05") == 1
    assert value(metrics, "skyfog_router_request_duration_seconds_sum", service="/detect") == pytest.approx(0.042)
    assert [event["event"] for event in inner.events] == ["sent"] * 3 + ["ejected", "delivered", "joined"]


def test_totals_and_states_are_read_when_they_are_scraped(metrics: RouterMetrics) -> None:
    states = (replica(), replica(zone="b", state="ejected", p99_ms=None))
    now = {"/detect": service(failed=2, failures={"NoReplica": 2}, replicas=states)}
    metrics.watch(lambda: now)
    assert value(metrics, "skyfog_router_up") == 1
    assert value(metrics, "skyfog_router_requests_total", service="/detect") == 101
    assert value(metrics, "skyfog_router_outcomes_total", service="/detect", outcome="delivered") == 100
    assert value(metrics, "skyfog_router_outcomes_total", service="/detect", outcome="NoReplica") == 2
    assert value(metrics, "skyfog_router_rescue_sends_total", service="/detect") == 2
    assert value(metrics, "skyfog_router_slo_seconds", service="/detect") == 0.2
    who = {"service": "/detect", "zone": "b", "replica": "0"}
    assert value(metrics, "skyfog_router_replica_state", **who, state="ejected") == 1
    assert value(metrics, "skyfog_router_replica_state", **who, state="healthy") == 0
    assert value(metrics, "skyfog_router_replica_latency_seconds", **who, quantile="0.5") == 0.0425
    assert value(metrics, "skyfog_router_replica_latency_seconds", **who, quantile="0.99") is None
    now = {"/detect": service(called=500, replicas=())}
    assert value(metrics, "skyfog_router_requests_total", service="/detect") == 500
    assert value(metrics, "skyfog_router_replica_state", **who, state="ejected") is None


def test_a_router_that_does_not_answer_is_down_and_the_rest_is_still_told(metrics: RouterMetrics) -> None:
    def busy() -> Mapping[str, ServiceSnapshot]:
        raise Overloaded("busy")

    metrics.watch(busy)
    assert value(metrics, "skyfog_router_up") == 0
    assert value(metrics, "skyfog_router_requests_total", service="/detect") is None
    assert value(metrics, "skyfog_router_ejections_total", service="/detect") == 0


def test_a_replica_tells_what_runs_waits_and_was_refused_and_how_long_it_took() -> None:
    metrics = ReplicaMetrics("/detect")
    trace = metrics.noting(MemoryTrace())
    trace.event("query", 1, id="00", budget_ms=5)
    trace.event("done", 2, id="00", status=0, us=42_000)
    trace.event("done", 3, id="01", status=5, us=9_000_000)
    metrics.watch(lambda: admission(refused={"full": 5, "unreadable": 1}))
    duration = "skyfog_replica_service_duration_seconds"
    assert value(metrics, f"{duration}_count", service="/detect") == 1
    assert value(metrics, f"{duration}_sum", service="/detect") == pytest.approx(0.042)
    assert value(metrics, "skyfog_replica_running", service="/detect") == 1
    assert value(metrics, "skyfog_replica_queue_depth", service="/detect") == 2
    assert value(metrics, "skyfog_replica_runs_started_total", service="/detect") == 50
    refused = "skyfog_replica_queries_refused_total"
    assert value(metrics, refused, service="/detect", reason="full") == 5
    assert value(metrics, refused, service="/detect", reason="unreadable") == 1
    assert value(metrics, refused, service="/detect", reason="hopeless") == 0


def test_all_names_begin_alike_and_say_their_unit(metrics: RouterMetrics) -> None:
    metrics.watch(lambda: {"/detect": service()})
    of_replica = ReplicaMetrics("/detect")
    of_replica.watch(admission)
    families = [
        family
        for each in (metrics, of_replica)
        for family in text_string_to_metric_families(generate_latest(each.registry).decode())
    ]
    assert len(families) > 30
    for family in families:
        assert family.name.startswith(("skyfog_router_", "skyfog_replica_"))
        assert family.documentation
        assert "_ms" not in family.name


def test_metrics_are_served_on_the_kernels_choice_of_port_until_closed(metrics: RouterMetrics) -> None:
    server = MetricsServer(metrics.registry, "127.0.0.1:0")
    assert "skyfog_router_ejections_total" in fetched(server.url)
    server.close()
    with pytest.raises(urllib.error.URLError):
        fetched(server.url)
    port = server.url.rpartition(":")[2].partition("/")[0]
    MetricsServer(metrics.registry, f"127.0.0.1:{port}").close()


def test_a_port_that_is_taken_is_refused_by_name(metrics: RouterMetrics) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"{listen}.*cannot listen there: Address already in use"):
            MetricsServer(metrics.registry, listen)


def test_an_address_of_another_machine_is_refused(metrics: RouterMetrics) -> None:
    with pytest.raises(ConfigError, match="cannot listen there"):
        MetricsServer(metrics.registry, "192.0.2.1:0")
