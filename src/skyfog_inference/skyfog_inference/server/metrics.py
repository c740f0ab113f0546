"""What an engine counts, for Prometheus; names after vLLM's, so that its dashboards need another prefix only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from skyfog_inference.metrics import EngineMetrics, Histogram

PREFIX = "skyfog:"
Value = Callable[[EngineMetrics], float]


def _share(now: EngineMetrics) -> float:
    state = now.scheduler
    return state.device_blocks_used / state.device_blocks if state.device_blocks else 0.0


def _running(now: EngineMetrics) -> int:
    """The scheduler's figure is that of the last step: those that waited then may be gone."""
    return max(now.live - now.scheduler.waiting, 0)


GAUGES: tuple[tuple[str, str, Value], ...] = (
    ("num_requests_running", "Requests of which something was computed.", _running),
    ("num_requests_waiting", "Requests that wait for their first step.", lambda m: m.scheduler.waiting),
    ("num_requests_on_host", "Requests whose keys and values are on the host.", lambda m: m.scheduler.on_host),
    ("kv_cache_usage_perc", "Share of the device's blocks in use; 1 is all.", _share),
    ("kv_blocks_used", "Blocks of keys and values in use on the device.", lambda m: m.scheduler.device_blocks_used),
    ("kv_blocks", "Blocks of keys and values on the device.", lambda m: m.scheduler.device_blocks),
    ("host_kv_blocks_used", "The same on the host.", lambda m: m.scheduler.host_blocks_used),
    ("host_kv_blocks", "The same on the host.", lambda m: m.scheduler.host_blocks),
)
COUNTERS: tuple[tuple[str, str, Value], ...] = (
    ("prompt_tokens", "Tokens of prompts of requests that began.", lambda m: m.prompt_tokens),
    ("generation_tokens", "Tokens drawn.", lambda m: m.drawn_tokens),
    ("prefix_cache_hits", "Tokens of prompts that another request had computed.", lambda m: m.scheduler.shared_tokens),
    ("num_preemptions", "Times that a request lost its blocks to another.", lambda m: m.scheduler.preemptions),
    ("num_requests_refused", "Requests refused since too many waited.", lambda m: m.refused),
    ("engine_steps", "Runs of the model.", lambda m: m.steps),
)
HISTOGRAMS: tuple[tuple[str, str, Callable[[EngineMetrics], Histogram]], ...] = (
    ("request_queue_time_seconds", "From a request's arrival to its first step.", lambda m: m.queue_s),
    ("time_to_first_token_seconds", "From a request's arrival to its first token.", lambda m: m.first_token_s),
    ("time_per_output_token_seconds", "Between two tokens of a request.", lambda m: m.between_tokens_s),
    ("e2e_request_latency_seconds", "From a request's arrival to its last token.", lambda m: m.total_s),
)


class MetricsOf:
    """A registry that asks the engine when somebody scrapes."""

    def __init__(self, model: str, metrics: Callable[[], EngineMetrics]) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._metrics = metrics
        self.registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Nothing: else the registry would ask for it when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        now = self._metrics()
        for name, text, value in GAUGES:
            gauge = GaugeMetricFamily(PREFIX + name, text, labels=["model_name"])
            gauge.add_metric([self._model], value(now))
            yield gauge
        for name, text, value in COUNTERS:
            counter = CounterMetricFamily(PREFIX + name, text, labels=["model_name"])
            counter.add_metric([self._model], value(now))
            yield counter
        ended = CounterMetricFamily(
            f"{PREFIX}request_success", "Requests that ended, by why.", labels=["model_name", "finished_reason"]
        )
        for reason, count in now.ended.items():
            ended.add_metric([self._model, reason.value], count)
        yield ended
        for name, text, histogram in HISTOGRAMS:
            yield self._histogram(PREFIX + name, text, histogram(now))

    def _histogram(self, name: str, text: str, found: Histogram) -> Metric:
        family = HistogramMetricFamily(name, text, labels=["model_name"])
        bounds = [*(str(bound) for bound in found.bounds), "+Inf"]
        buckets = list(zip(bounds, itertools.accumulate(found.counts), strict=True))
        family.add_metric([self._model], buckets, found.total)
        return family
