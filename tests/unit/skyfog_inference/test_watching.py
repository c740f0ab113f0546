"""What an engine counts, as Prometheus, a table and a diagnosis tell it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prometheus_client import generate_latest

from skyfog_core.diagnosis import Level
from skyfog_inference.diagnosis import diagnose
from skyfog_inference.metrics import EngineMetrics, Histogram
from skyfog_inference.request import FinishReason
from skyfog_inference.scheduler.base import SchedulerState
from skyfog_inference.server.look import table_of
from skyfog_inference.server.metrics import MetricsOf

STATE = SchedulerState(2, 3, 1, 25, 100, 5, 50, 7, 64)


def counted(**changes: Any) -> EngineMetrics:
    ended = dict.fromkeys(FinishReason, 0) | {FinishReason.STOP: 4}
    histogram = Histogram()
    histogram.observe(0.02)
    histogram.observe(100.0)
    made = EngineMetrics(STATE, 6, ended, 1, 9, 200, 300, *(histogram.copy() for _ in range(4)))
    return replace(made, **changes)


def scraped(now: EngineMetrics) -> str:
    return generate_latest(MetricsOf("m", lambda: now).registry).decode()


def test_fewer_live_than_waited_in_the_last_step_are_none_running() -> None:
    assert 'skyfog:num_requests_running{model_name="m"} 0.0' in scraped(counted(live=1))


def test_names_are_those_of_vllm_with_our_prefix() -> None:
    text = scraped(counted())
    for line in (
        'skyfog:num_requests_running{model_name="m"} 4.0',
        'skyfog:num_requests_waiting{model_name="m"} 2.0',
        'skyfog:kv_cache_usage_perc{model_name="m"} 0.25',
        'skyfog:prompt_tokens_total{model_name="m"} 200.0',
        'skyfog:generation_tokens_total{model_name="m"} 300.0',
        'skyfog:num_preemptions_total{model_name="m"} 7.0',
        'skyfog:request_success_total{finished_reason="stop",model_name="m"} 4.0',
        'skyfog:time_to_first_token_seconds_bucket{le="0.025",model_name="m"} 1.0',
        'skyfog:time_to_first_token_seconds_bucket{le="60.0",model_name="m"} 1.0',
        'skyfog:time_to_first_token_seconds_bucket{le="+Inf",model_name="m"} 2.0',
        'skyfog:time_to_first_token_seconds_sum{model_name="m"} 100.02',
        'skyfog:time_per_output_token_seconds_count{model_name="m"} 2.0',
    ):
        assert line in text.splitlines()


def test_a_scrape_is_shown_as_a_table() -> None:
    table = table_of(scraped(counted()))
    assert table is not None
    rows = dict(zip(*(list(column.cells) for column in table.columns), strict=True))
    assert (rows["requests running"], rows["cache in use"], rows["tokens drawn"]) == ("4", "25.0%", "300")
    assert rows["mean time to the first token"] == "50010.0 ms"


def test_what_is_no_scrape_of_ours_is_no_table() -> None:
    for text in ("", "up 1\n", "<html>", "skyfog:nothing"):
        assert table_of(text) is None


def test_no_token_yet_has_no_mean() -> None:
    table = table_of(scraped(counted(between_tokens_s=Histogram())))
    assert table is not None
    rows = dict(zip(*(list(column.cells) for column in table.columns), strict=True))
    assert rows["mean time between tokens"] == "-"


def test_a_diagnosis_tells_what_happened_since_the_last_one() -> None:
    before = counted()
    well = diagnose(before, before, "")
    assert (well.level, well.message) == (Level.OK, "6 requests under way")
    assert well.values["device blocks"] == "25/100"
    worse = counted(refused=4, ended={FinishReason.FAILED: 2})
    assert diagnose(before, worse, "").level == Level.WARN
    assert diagnose(before, worse, "").message == "3 requests refused, since too many wait; 2 requests failed"
    assert diagnose(before, worse, "shutting down").level == Level.ERROR
