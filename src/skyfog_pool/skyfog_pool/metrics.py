"""A pool's figures for Prometheus, read from the status document whenever somebody scrapes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from skyfog_core.errors import ConfigError

# Events of the keeper that are told as counters: name of the metric, what it counts.
_EVENTS = {
    "launch": ("skyfog_pool_launches", "Replicas that were decided."),
    "launch_failed": ("skyfog_pool_launch_failures", "Launches of which no machine came."),
    "preempted": ("skyfog_pool_preemptions", "Machines that the market took."),
    "failed": ("skyfog_pool_failures", "Replicas whose service failed."),
    "notice": ("skyfog_pool_notices", "Notices of the clouds."),
    "leak": ("skyfog_pool_leaks", "Machines that no replica had, given back."),
}
_GAUGES = {
    "target": "Replicas wanted ready.",
    "ready": "Replicas that take requests.",
    "usd_per_hour": "What the machines cost now.",
    "on_demand_usd_per_hour": "What the same machines would cost on demand.",
}


class PoolCollector(Collector):
    """Of one controller."""

    def __init__(self, read: Callable[[], Mapping[str, Any]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Nothing before the controller has begun."""
        now = self._read()
        if not now:
            return
        pool = [now["pool"]]
        replicas = GaugeMetricFamily("skyfog_pool_replicas", "Replicas.", labels=["pool", "state", "zone", "market"])
        counts = Counter((each["state"], each["zone"], each["market"]) for each in now["replicas"])
        for labels, count in sorted(counts.items()):
            replicas.add_metric([*pool, *labels], count)
        yield replicas
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"skyfog_pool_{name}", text, labels=["pool"])
            gauge.add_metric(pool, now[name])
            yield gauge
        for name, text in {"usd": "Spent so far.", "on_demand_usd": "The same on demand."}.items():
            cost = CounterMetricFamily(f"skyfog_pool_cost_{name}", text, labels=["pool"])
            cost.add_metric(pool, now[name])
            yield cost
        for event, (name, text) in _EVENTS.items():
            counter = CounterMetricFamily(name, f"{text} Since this controller's start.", labels=["pool"])
            counter.add_metric(pool, now["counts"].get(event, 0))
            yield counter


@contextlib.contextmanager
def serve(listen: str, read: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """On HOST:PORT. Raises ConfigError for one that cannot be had."""
    host, _, port = listen.rpartition(":")
    registry = CollectorRegistry()
    registry.register(PoolCollector(read))
    try:
        server, thread = start_http_server(int(port), host or "127.0.0.1", registry)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"--metrics {listen}: should be HOST:PORT that is free here: {error}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
