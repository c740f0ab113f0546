"""`skyfog uplink plan` prints what each service would get, and what plans are worth over the link's rate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from skyfog_core.errors import ConfigError
from skyfog_uplink.cli import app
from skyfog_uplink.cli_plan import parse_rates
from skyfog_uplink.policy.link import LEVELS

FILE = """
name: small
source: made up
services:
  front:
    cloud: /detect
    type: a/srv/B
    rate_hz: 5
    slo_ms: 150
    floor: {model: tiny, accuracy: 0.3, exec_ms: 40}
    options:
      - {name: small, model: large, accuracy: 0.5, bytes: 12500, exec_ms: 0}
      - {name: whole, model: large, accuracy: 0.6, bytes: 50 kB, exec_ms: 0}
  rear: {like: front}
scenes:
  reverse: {weights: {rear: 3}}
  fast: {above_mps: 20, weights: {rear: 0}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(FILE)
    return path


def plan(*words: str) -> Result:
    return CliRunner().invoke(app, ["plan", *words])


def test_a_plan_is_a_row_a_service(file: Path) -> None:
    result = plan(str(file), "--mbps", "5.5", "--rtt", "50")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "5.50 of 5.50 Mbit/s granted; expected utility 1.095"
    front, rear = (next(line for line in lines if line.strip().startswith(name)).split() for name in ("front", "rear"))
    assert {front[1], rear[1]} == {"small", "whole"}
    assert any("a better one needs 4.00 Mbit/s" in line for line in lines)


def test_the_scene_and_the_speed_decide_who_gets_more(file: Path) -> None:
    for words, wanted in (
        (["--scene", "reverse"], [None, "whole"]),
        (["--speed", "30"], ["whole", None]),
        (["--scene", "reverse", "--speed", "30"], [None, "whole"]),
    ):
        result = plan(str(file), "--mbps", "4.5", "--json", *words)
        assert [grant["option"] for grant in json.loads(result.output)["grants"]] == wanted


def test_a_link_that_varies_is_planned_with_carefully_and_probed(file: Path) -> None:
    found = json.loads(plan(str(file), "--mbps", "1.2,6,9", "--json").output)
    assert [grant["option"] for grant in found["grants"]].count(None) == 1
    assert any(grant["probe"] for grant in found["grants"])
    assert found["budget_bps"] <= 1.2e6 * (1 + 1e-9)


def test_a_sweep_shows_ours_beside_the_others(file: Path) -> None:
    result = plan(str(file), "--sweep")
    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines() if line.strip()[:1].isdigit()]
    ours, turbo, split, one, car = zip(*[map(float, row[1:6]) for row in rows], strict=True)
    assert car == (0.3,) * len(rows)
    assert ours[-1] == turbo[-1] == 0.6
    assert all(mine >= other - 1e-4 for others in (split, one) for mine, other in zip(ours, others, strict=True))
    assert list(ours) == sorted(ours)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mbps", "nan"], "--mbps: should be one number of Mbit/s"),
        (["--mbps", "0"], "--mbps"),
        (["--mbps", "5,2,1"], "--mbps"),
        (["--mbps", "fast"], "--mbps"),
        (["--rtt", "-1"], "--rtt"),
        (["--scene", "moon"], "--scene: 'moon' is not in the table (known: reverse, fast)"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_is_allowed(file: Path, words: list[str], said: str) -> None:
    result = plan(str(file), *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_missing_table_is_said(tmp_path: Path) -> None:
    result = plan(str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert "none.yaml" in result.stderr


def test_three_rates_are_quantiles() -> None:
    rates = parse_rates("2,6,12")
    assert [rates[LEVELS.index(level)] for level in (0.05, 0.5, 0.9)] == pytest.approx([2e6, 6e6, 12e6])
    assert list(rates) == sorted(rates)
    assert parse_rates("7") == (7e6,) * len(LEVELS)
    with pytest.raises(ConfigError):
        parse_rates("1,2")
