"""`skyfog bench uplink` on a few seconds: its report is whole, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyfog_bench.processes import Processes
from skyfog_bench.uplink import bench
from skyfog_bench.uplink.drives import FOLDER, TABLES, Case, build, cases, folder
from skyfog_bench.uplink.play import CONTENDERS
from skyfog_sim.uplink_contenders import ON_CAR, OURS

SMALL = bench.Size(seconds=2, recorded_seconds=2, traces=1, hour_seconds=3)


@pytest.fixture
def _no_traces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "absent"))


@pytest.mark.usefixtures("_no_traces")
def test_the_report_has_every_policy_on_every_drive_and_pictures(tmp_path: Path) -> None:
    out = tmp_path / "out" / "uplink.json"
    with Processes({}) as processes:
        report = bench.run(processes, SMALL, 3, lambda _text: None, out)
    rows = [row for row in report.rows if "to_oracle_percent" in row]
    assert [row["policy"] for row in rows] == [*CONTENDERS, "oracle", "bound"] * len(TABLES)
    for at in range(0, len(rows), len(CONTENDERS) + 2):
        drive = {row["policy"]: row["utility"] for row in rows[at : at + len(CONTENDERS) + 2]}
        assert max(drive.values()) == drive["bound"]
        assert drive[OURS] >= drive[ON_CAR]
    assert any("service" in row for row in report.rows)
    goals = {goal["name"]: goal for goal in report.as_json()["goals"]}
    for name, goal in goals.items():
        assert (goal["met"] is None) == name.startswith("recorded")
        assert not name.startswith("recorded") or "recorded traces are not here" in goal["why"]
    alone = [row for row in report.rows if "alone" in row]
    assert [row["alone"].split(", ")[1] for row in alone] == list(TABLES)
    (took,) = (goal["value"] for name, goal in goals.items() if "an hour's drive" in name)
    assert took == pytest.approx(max(row["cpu_s_an_hour"] for row in alone), rel=1e-3)
    for suffix in (".png", ".strip.png"):
        assert out.with_suffix(suffix).stat().st_size > 10_000


@pytest.mark.usefixtures("_no_traces")
def test_without_recorded_traces_only_generated_ones_are_played() -> None:
    assert folder() is None
    found = list(cases(10, 10, 6, 0))
    assert len(found) == 6 * len(TABLES)
    assert not any(case.recorded for case in found)


def test_a_case_is_the_same_drive_in_every_process() -> None:
    case = Case("car", "Starlink moving", recorded=False, seconds=5, seed=2)
    one, other = build(case), build.__wrapped__(case)
    assert one is not other
    assert (one.course.array == other.course.array).all()
    assert (one.frames[0].sizes == other.frames[0].sizes).all()
    assert one.scenes == other.scenes
