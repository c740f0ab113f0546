"""What the command shows, and which pool it means."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from skyfog_core.errors import ConfigError
from skyfog_pool import folders, views
from skyfog_pool.cli import _new
from skyfog_pool.store import Event


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.4, "0s"), (59, "59s"), (61, "1m 1s"), (3_600, "1h"), (3_661, "1h 1m"), (90_000, "1d 1h")],
)
def test_durations_in_two_units(value: float | None, text: str) -> None:
    assert views.seconds(value) == text


def test_costs_against_on_demand() -> None:
    assert views.saved(1.0, 4.0) == "75% below on demand"
    assert views.saved(5.0, 4.0) == "25% above on demand"
    assert views.saved(1.0, 0.0) == ""
    assert (views.usd(0.01234), views.usd(1_234.5), views.usd(None)) == ("$0.0123", "$1,234.50", "-")


def test_events_as_lines() -> None:
    assert views.said(Event(0.0, "state", 1, {"state": "READY", "was": "STARTING", "why": ""})) == "STARTING -> READY"
    assert views.said(Event(0.0, "leak", None, {"instance": "i-1", "zone": "a"})) == "leak: instance i-1, zone a"


def test_a_dead_controller_and_a_silent_one_are_said() -> None:
    now = {
        "pool": "web",
        "ready": 1,
        "target": 2,
        "version": 1,
        "provider": "local",
        "service": "/web",
        "placer": "skyfog",
        "usd_per_hour": 0.5,
        "on_demand_usd_per_hour": 2.0,
        "usd": 1.0,
        "on_demand_usd": 4.0,
        "at_unix": 100.0,
        "wish": "up",
        "holding": "no prices yet",
        "trouble": "instances: HTTP 500",
        "source": "/x/web.yaml",
    }
    dead = views.head(now, None, 130.0).plain
    assert "no controller runs (as of 30s ago): skyfog pool up /x/web.yaml" in dead
    assert "costs $0.5000/h (75% below on demand); $1.00 so far (75% below on demand)" in dead
    assert "holding back: no prices yet" in dead
    assert "provider: instances: HTTP 500" in dead
    assert "process 7, has told nothing for 30s" in views.head(now, 7, 130.0).plain
    assert "told nothing" not in views.head(now, 7, 101.0).plain


def test_a_replica_without_anything_yet_can_be_shown() -> None:
    row = {
        "id": 1,
        "zone": "a",
        "market": "spot",
        "state": "FAILED_PROVISION",
        "version": 1,
        "age_s": None,
        "notice": None,
        "price_per_hour": 0.0,
        "latency_ms": None,
        "endpoint": "",
        "why": "[quota] of 4",
        "because": "",
    }
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(views.replicas([row]))
    assert "[quota] of 4" in console.export_text()


@pytest.mark.parametrize(
    ("old", "fresh", "new"),
    [
        ([], ["a", "b"], ["a", "b"]),
        (["a", "b"], ["a", "b"], []),
        (["b", "c"], ["a", "b", "c", "d"], ["d"]),
        (["a", "b", "c"], ["c", "d"], ["d"]),  # the window has moved on
        (["a"], ["x", "y"], ["x", "y"]),  # and far on
        (["a", "b"], ["a", "b", "a", "b"], []),  # the newest that fits: rather too little than twice
    ],
)
def test_what_is_new_in_a_log(old: list[str], fresh: list[str], new: list[str]) -> None:
    assert _new(old, fresh) == new


def test_pools_are_found_by_name_or_as_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(folders.STATE_DIR, str(tmp_path))
    with pytest.raises(ConfigError, match="begin one with: skyfog pool up FILE"):
        folders.find(None)
    for name in ("detect", "segment"):
        (tmp_path / "pools" / name).mkdir(parents=True)
        (tmp_path / "pools" / name / "pool.sqlite").touch()
        if name == "detect":
            assert folders.find(None).name == "detect"
    with pytest.raises(ConfigError, match=r"which pool\? \(known: detect, segment\)"):
        folders.find(None)
    with pytest.raises(ConfigError, match=r"no pool 'detekt'; did you mean 'detect'\? \(known: detect, segment\)"):
        folders.find("detekt")
