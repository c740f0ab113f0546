"""A server's `/metrics` as a table."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.box import SIMPLE_HEAD
from rich.table import Table

from skyfog_core.errors import ServiceFailed
from skyfog_inference.server.metrics import PREFIX

ROWS = (
    ("requests running", "num_requests_running", "{:.0f}"),
    ("requests waiting", "num_requests_waiting", "{:.0f}"),
    ("requests refused", "num_requests_refused_total", "{:.0f}"),
    ("prompt tokens", "prompt_tokens_total", "{:.0f}"),
    ("of them shared", "prefix_cache_hits_total", "{:.0f}"),
    ("tokens drawn", "generation_tokens_total", "{:.0f}"),
    ("cache in use", "kv_cache_usage_perc", "{:.1%}"),
    ("preemptions", "num_preemptions_total", "{:.0f}"),
)
TIMES = (
    ("in the queue", "request_queue_time_seconds"),
    ("to the first token", "time_to_first_token_seconds"),
    ("between tokens", "time_per_output_token_seconds"),
    ("to the last token", "e2e_request_latency_seconds"),
)
Key = tuple[str, str]  # of a sample: its name, and the model


def look(url: str, limit_s: float) -> Table:
    """Raises ServiceFailed where nobody answers there, or what answers is no server of ours."""
    address = f"{url.removesuffix('/').removesuffix('/v1')}/metrics"
    try:
        answer = httpx.get(address, timeout=limit_s)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceFailed(f"{address}: {error}") from None
    table = None if answer.is_error else table_of(answer.text)
    if table is None:
        raise ServiceFailed(f"{address}: no `skyfog infer serve` answers there (status {answer.status_code})")
    return table


def table_of(text: str) -> Table | None:
    """What a scrape tells; None where it is none of ours."""
    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError:
        return None
    found = {
        (sample.name.removeprefix(PREFIX), sample.labels["model_name"]): sample.value
        for sample in samples
        if sample.name.startswith(PREFIX) and "model_name" in sample.labels and "le" not in sample.labels
    }
    return _table(found) if found else None


def _table(found: dict[Key, float]) -> Table:
    models = sorted({model for _, model in found})
    table = Table("", *models, box=SIMPLE_HEAD)
    for title, name, form in ROWS:
        table.add_row(title, *(form.format(found[name, model]) for model in models))
    for title, name in TIMES:
        table.add_row(f"mean time {title}", *(_mean(found, name, model) for model in models))
    return table


def _mean(found: dict[Key, float], name: str, model: str) -> str:
    count = found[f"{name}_count", model]
    return f"{found[f'{name}_sum', model] / count * 1e3:.1f} ms" if count else "-"
