"""`skyfog uplink table` prints what each option needs of the link, and refuses what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyfog_core.errors import ConfigError
from skyfog_uplink.cli import app
from skyfog_uplink.cli_table import parse_rtts

FILE = """
name: small
source: made up
services:
  front:
    cloud: /detect
    type: a/srv/B
    rate_hz: 10
    slo_ms: 150
    floor: {model: tiny, accuracy: 0.3, exec_ms: 40}
    options:
      - {name: good, model: large, accuracy: 0.6, bytes: 48750, exec_ms: 53,
         codec: jpeg, quality: 50, width: 64, height: 48}
      - {name: worse, model: large, accuracy: 0.5, bytes: 60000, exec_ms: 53}
      - {name: late, model: huge, accuracy: 0.9, bytes: 10 kB, exec_ms: 170}
      - {name: poor, model: tiny, accuracy: 0.2, bytes: 1 kB, exec_ms: {p50: 10, p90: 12, p99: 15}}
  left: {like: front}
  rear: {like: front, slo_ms: 300}
scenes:
  night: {below_mps: 9, weights: {rear: 2}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(FILE)
    return path


def test_each_option_is_shown_with_what_it_needs_or_why_it_is_of_no_use(file: Path) -> None:
    result = CliRunner().invoke(app, ["table", str(file), "--rtt", "50"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    rows = {line.split()[0]: line for line in reversed(lines) if line.strip()}  # the first of each
    assert "jpeg 50 64x48" in rows["good"]
    assert "8.3" in rows["good"].split()  # 0.39 Mbit in 150 - 50 - 53 ms
    assert rows["worse"].rstrip().endswith("below good")
    assert rows["late"].rstrip().endswith("never in time")
    assert "10..15" in rows["poor"]
    assert rows["poor"].rstrip().endswith("no better than the floor")
    titles = [line for line in lines if "% within" in line]
    assert titles == [
        "front: /detect, 10 Hz, 99 % within 150 ms, weight 1",
        "left: /detect, 10 Hz, 99 % within 150 ms, weight 1",
        "rear: /detect, 10 Hz, 99 % within 300 ms, weight 1",
    ]
    assert sum(line.split()[:1] == ["good"] for line in lines) == 2  # once for front and left, once for rear
    assert "scene night below 9 m/s: rear x2" in lines
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert warnings[0].startswith("warning: front, left, rear: option poor (0.2) is no better")
    assert warnings[1].startswith("warning: front, left: option late is never in time")


def test_json_gives_null_for_what_is_never_enough(file: Path) -> None:
    result = CliRunner().invoke(app, ["table", str(file), "--json"])
    front, _, rear = json.loads(result.output)["services"]
    needs = {option["name"]: option["needed_bps"] for option in front["options"]}
    assert needs["late"] is None
    assert needs["good"] == pytest.approx(8.298e6, rel=1e-3)
    assert all(option["needed_bps"] for option in rear["options"])


@pytest.mark.parametrize(
    ("change", "rtt", "message"),
    [
        (("48750", "-3"), "50", "services.front.options.0.bytes: input should be greater than or equal to 0, not -3"),
        (("10 kB", "10 kb"), "50", "services.front.options.2.bytes: unknown unit 'kb'"),
        (("like: front", "like: fornt"), "50", "services.left.like: unknown service 'fornt'; did you mean 'front'?"),
        (("name: small", "name: small"), "fast", "--rtt: should be one number of ms, or 4 that do not fall"),
    ],
)
def test_a_wrong_table_ends_with_2_and_says_what_is_wrong(
    file: Path, change: tuple[str, str], rtt: str, message: str
) -> None:
    file.write_text(FILE.replace(*change))
    result = CliRunner().invoke(app, ["table", str(file), "--rtt", rtt])
    assert result.exit_code == 2
    assert message in result.stderr
    assert all(line.startswith("skyfog uplink table: ") for line in result.stderr.splitlines())
    assert not result.stdout


def test_a_file_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["table", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "none.yaml: No such file or directory" in result.stderr


def test_round_trips_are_one_number_or_quantiles() -> None:
    assert parse_rtts("50") == (50.0,) * 4
    assert parse_rtts("1,2,3,4.5") == (1.0, 2.0, 3.0, 4.5)


@pytest.mark.parametrize("text", ["", "x", "1,2", "4,3,2,1", "-1", "nan", "inf", "1,2,3,nan", "1e9"])
def test_what_is_no_round_trip_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--rtt: should be"):
        parse_rtts(text)
