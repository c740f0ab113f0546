"""`skyfog bench pool` on half a day: its report is whole, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyfog_bench.pool import bench
from skyfog_bench.pool.markets import FOLDER, folder, generated, recorded
from skyfog_bench.pool.play import CONTESTANTS, OURS, OURS_SERVES, PUBLISHED, PUBLISHED_SERVES, SKYPILOT, play
from skyfog_bench.processes import Processes
from skyfog_sim.machines import MachineModel

pytest.importorskip("highspy", reason="the extra `bench` is not installed")

SMALL = bench.Size(
    days=0.5, courses=1, generated=2, generated_days=0.5, seeds=2, patterns=("poisson", "bursty"), autoscale_days=0.5
)
OWN = [who.name for who in CONTESTANTS if who.placer is not None]


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No recorded markets, no peer."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "absent"))
    monkeypatch.setenv("SKYFOG_WS", str(tmp_path))


def test_the_report_has_every_policy_on_every_market_and_pictures(tmp_path: Path) -> None:
    out = tmp_path / "out" / "pool.json"
    with Processes({}) as processes:
        report = bench.run(processes, SMALL, 3, lambda _text: None, out)
    rows = [row for row in report.rows if "cost_to_omniscient" in row]
    assert [row["policy"] for row in rows] == [*OWN, "omniscient"] * 2
    for row in rows:
        if row["percent_at_target"] == 100.0:  # a bound for all that are at target all the time
            assert row["cost_to_omniscient"] >= 1.0 - 1e-9
    latencies = [row for row in report.rows if "begun_again" in row]
    assert len(latencies) == 2 * len(OWN) * 2
    assert all(0 < row["p50_s"] <= row["p90_s"] <= row["p99_s"] <= 100.0 for row in latencies)
    scaled = [row["policy"] for row in report.rows if "autoscaled" in row]
    assert scaled == ["on demand only", PUBLISHED, PUBLISHED_SERVES, OURS, OURS_SERVES]
    for suffix in (".png", ".strip.png"):
        assert out.with_suffix(suffix).stat().st_size > 10_000


def test_goals_without_data_or_peer_say_so() -> None:
    with Processes({}) as processes:
        report = bench.run(processes, SMALL, 3, lambda _text: None)
    goals = {goal["name"]: goal for goal in report.as_json()["goals"]}
    unknown = [name for name, goal in goals.items() if goal["met"] is None]
    assert len([name for name in unknown if name.startswith("recorded")]) == 2 * 8
    assert all("recorded markets are not here" in goals[name]["why"] for name in unknown if name.startswith("recorded"))
    for choice in bench.CHOICES:
        assert "skypilot" in goals[f"cost to SkyPilot 0.14's own classes, {choice}, mean"]["why"]
    assert all(goal["met"] is not None for name, goal in goals.items() if name.startswith("generated"))


def test_every_policy_sees_the_same_requests_and_a_seed_repeats() -> None:
    course = next(iter(generated(1, 1, 0.3)))
    tables = [play(course, [5], ["poisson"], None, lambda _text: None, MachineModel()) for _ in range(2)]
    for one, again in zip(*(table.played for table in tables), strict=True):
        assert one.results == again.results
        assert one.latencies == again.latencies
    assert len({one.latencies["poisson"][0].requests for one in tables[0].played}) == 1
    assert tables[0].of(SKYPILOT) is None


def test_recorded_markets_are_read_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER)
    monkeypatch.setenv("SKYFOG_WS", str(Path(__file__).parents[3]))
    root = folder()
    if root is None:
        pytest.skip("the recorded markets are not here")
    courses = list(recorded(root))
    assert len({course.name for course in courses}) == len(courses) == 8
    assert courses[0].market.of("us-west-2c").spot_price.values == (0.918,)
