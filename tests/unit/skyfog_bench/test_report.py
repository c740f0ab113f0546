"""The form of reports, and when a goal is met."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from skyfog_bench import report as report_module
from skyfog_bench.measure import Figure
from skyfog_bench.report import Goal, Report, at_least, at_most, show, write


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(report_module, "commit", lambda: "0123456789ab")
    report = Report("example", seed=3)
    report.rows += [{"case": "one", "p50_ms": 1.23412}, {"case": "two", "p50_ms": None}, {"what": "other columns"}]
    report.goals += [at_most("ratio", 2.0, Figure(1.5, 1.4, 1.6)), Goal("lost", 0, 1, "calls")]
    report.goals.append(Goal("beside a peer", 1.0, None, why="the peer is not installed"))
    return report.as_json()


def test_a_report_has_the_form_that_every_report_has(plain: dict[str, Any]) -> None:
    assert list(plain) == ["name", "commit", "machine", "seed", "rows", "goals"]
    assert (plain["name"], plain["commit"], plain["seed"]) == ("example", "0123456789ab", 3)
    assert {"cpu", "cores", "ram_gb", "python"} <= plain["machine"].keys()
    assert plain["rows"][0] == {"case": "one", "p50_ms": 1.234}
    assert plain["goals"] == [
        {"name": "ratio", "goal": "<= 2", "value": 1.5, "met": True, "spread": [1.4, 1.6]},
        {"name": "lost", "goal": "<= 0 calls", "value": 1, "met": False},
        {"name": "beside a peer", "goal": "<= 1", "value": None, "met": None, "why": "the peer is not installed"},
    ]


@pytest.mark.parametrize(("value", "met"), [(1.99, True), (2.0, True), (2.01, False)])
def test_a_goal_is_met_up_to_its_limit(value: float, met: bool) -> None:
    assert Goal("ratio", 2.0, value).met is met


@pytest.mark.parametrize(("value", "met"), [(1.99, False), (2.0, True), (2.01, True)])
def test_a_goal_of_at_least_is_met_from_its_limit_on(value: float, met: bool) -> None:
    goal = at_least("ratio", 2.0, Figure(value, value, value))
    assert goal.met is met
    assert goal.as_json()["goal"] == ">= 2"


@pytest.mark.parametrize(("value", "why"), [(None, ""), (1.0, "no peer")])
def test_a_goal_has_either_a_value_or_a_reason(value: float | None, why: str) -> None:
    with pytest.raises(ValueError, match="either a value or why"):
        Goal("ratio", 2.0, value, why=why)


def test_what_is_shown_names_every_row_and_goal_and_why_one_is_not_known(plain: dict[str, Any]) -> None:
    text = io.StringIO()
    show(plain, Console(file=text, width=120))
    for word in ("example", "one", "1.23", "two", "other columns", "ratio", "1.40-1.60", "the peer is not installed"):
        assert word in text.getvalue()


def test_a_written_report_reads_back(plain: dict[str, Any], tmp_path: Path) -> None:
    write(plain, tmp_path / "new" / "example.json")
    assert json.loads((tmp_path / "new" / "example.json").read_text()) == plain
