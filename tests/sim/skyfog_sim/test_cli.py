from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyfog_sim import cli, replay
from skyfog_sim.check import Broken
from skyfog_sim.cluster import Cluster
from skyfog_sim.pool_world import PoolWorld


def sim(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(words))
    return result.exit_code, result.output


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every history ends in a broken invariant."""

    def run(cluster: Cluster) -> None:
        cluster.history.note(5, "call", "robot0", bytes(16))
        raise Broken("outcome", "none at all")

    monkeypatch.setattr(replay.Cluster, "run", run)


def test_run_tells_what_was_met_and_writes_it(tmp_path: Path) -> None:
    status, output = sim("run", "--seeds", "5", "--json", str(tmp_path / "r.json"))
    assert status == 0
    assert "5 seeds" in output
    assert "0 broke an invariant" in output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["seeds"] == 5
    assert report["failures"] == []
    assert report["outcomes"]["delivered"] > 0


def test_run_routes_by_the_policy_that_was_named(tmp_path: Path) -> None:
    status, _ = sim("run", "--seeds", "5", "--policy", "broadcast", "--json", str(tmp_path / "r.json"))
    assert status == 0
    assert json.loads((tmp_path / "r.json").read_text())["policies"].keys() <= {"broadcast", "single", "slo"}


@pytest.mark.usefixtures("broken")
def test_a_seed_that_breaks_an_invariant_prints_the_command_that_shows_it() -> None:
    status, output = sim("run", "--seeds", "1", "--first", "41")
    assert status == 1
    assert "./ws run skyfog sim replay 41   # outcome: none at all" in output


@pytest.mark.usefixtures("broken")
def test_replay_ends_with_what_is_broken() -> None:
    status, output = sim("replay", "41")
    assert status == 1
    assert output.rstrip().endswith("BROKEN  outcome: none at all")


def test_replay_prints_the_scenario_and_the_history_and_writes_it(tmp_path: Path) -> None:
    status, output = sim("replay", "3", "--trace", str(tmp_path / "t.jsonl"))
    assert status == 0
    assert "seed 3" in output
    assert "every invariant holds" in output
    entries = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert {"t_ns", "event"} <= entries[0].keys()
    assert sum(entry["event"] == "call" for entry in entries) >= 30


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("run", "--policy", "fastest"), "'fastest' is none of slo, broadcast"),
        (("run", "--seeds", "0"), "--seeds"),
        (("replay", "3", "--trace", "/proc/nowhere"), "/proc/nowhere"),
        (("replay",), "Missing argument"),
    ],
)
def test_a_wrong_option_is_named(words: tuple[str, ...], problem: str) -> None:
    status, output = sim(*words)
    assert status == 2
    assert problem in output


def test_a_fleet_is_played_at_the_size_that_is_asked_for() -> None:
    status, output = sim("fleet", "--robots", "5", "--replicas", "4", "--seconds", "1")
    assert status == 0
    assert "5 robots, 4 replicas" in output
    assert "us a request" in output


def test_pool_plays_seeds_or_shows_one(tmp_path: Path) -> None:
    status, output = sim("pool", "--seeds", "3", "--placement", "spothedge", "--json", str(tmp_path / "r.json"))
    assert status == 0
    assert "3 seeds" in output
    assert json.loads((tmp_path / "r.json").read_text())["placements"] == {"spothedge": 3}
    status, output = sim("pool", "--seed", "7")
    assert status == 0
    assert "every invariant holds; history" in output


def test_a_pool_s_seed_that_breaks_an_invariant_prints_the_command_that_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(_world: PoolWorld) -> None:
        raise Broken("leak", "all of it")

    monkeypatch.setattr(PoolWorld, "run", run)
    status, output = sim("pool", "--seeds", "1", "--first", "9")
    assert status == 1
    assert "./ws run skyfog sim pool --seed 9   # leak: all of it" in output
    status, output = sim("pool", "--seed", "9")
    assert status == 1
    assert output.rstrip().endswith("BROKEN  leak: all of it")


def test_a_placement_that_nobody_knows_is_refused() -> None:
    status, output = sim("pool", "--placement", "cheapest")
    assert status == 2
    assert "spothedge" in output
