"""`skyfog bench fogros2ft` from a recording to goals, on few requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyfog_bench.fogros2ft import live, plot
from skyfog_bench.fogros2ft.bench import Size, deadline_ms, pace_s, recording_row, replay, tasks
from skyfog_bench.fogros2ft.conditions import BOTH
from skyfog_bench.fogros2ft.draws import MOST_REPLICAS, Recording, draw_world
from skyfog_bench.fogros2ft.record import DETECTION, PLANNING, SEGMENTATION, Counts
from skyfog_bench.fogros2ft.replay import Played, play, routing
from skyfog_bench.fogros2ft.table import ONE, Cells, cost_row, goals, latency_row
from skyfog_core.rng import stream
from skyfog_core.units import ns_to_ms

COUNTS = Counts(calls=0, queries=0, runs=0, contended_runs=0)
SHORT = 130  # requests


def recording(scenario: str, *, can_stop: bool) -> Recording:
    random = stream(0, scenario)
    quiet = tuple(tuple(20.0 + random.expovariate(1 / 50) for _ in range(5)) for _ in range(6))
    return Recording(scenario, quiet, (3.5, 4.0, 4.5), 90_000, 2_000, can_stop)


DETECT, PLAN = recording(DETECTION, can_stop=False), recording(PLANNING, can_stop=True)


def played(one: Recording, policy: str, replicas: int, seed: int = 0) -> tuple[Played, list[float]]:
    """A short world, and the physical limit of each request."""
    world = draw_world(one, BOTH, SHORT, pace_s(one), seed)
    found = play(world, routing(policy, replicas, deadline_ms(one)), replicas, seed, warm=0)  # type: ignore[arg-type]
    return found, [ns_to_ms(world.least_ns(request, replicas)) for request in range(SHORT)]


@pytest.mark.parametrize("one", [DETECT, PLAN], ids=lambda one: one.scenario)
@pytest.mark.parametrize("replicas", [1, 3])
def test_who_asks_everybody_reaches_the_physical_limit(one: Recording, replicas: int) -> None:
    found, least = played(one, "broadcast", replicas)
    assert found.failed == 0
    assert found.copies == replicas - 1
    reached = sum(abs(a - b) < 1e-3 for a, b in zip(found.latencies_ms, least, strict=True))
    assert reached > 0.95 * SHORT  # a few wait for the request before
    assert all(a > b - 1e-3 for a, b in zip(found.latencies_ms, least, strict=True))


@pytest.mark.parametrize("policy", ["single", "k_of_n", "hedged", "slo"])
def test_no_policy_is_faster_than_the_limit(policy: str) -> None:
    found, least = played(DETECT, policy, 3)
    assert found.failed == 0
    assert len(found.latencies_ms) == SHORT
    assert all(a > b - 1e-3 for a, b in zip(found.latencies_ms, least, strict=True))


def test_a_planner_that_is_stopped_works_less_than_one_that_goes_on() -> None:
    stopped, on = (played(recording(PLANNING, can_stop=c), "broadcast", 4)[0] for c in (True, False))
    assert stopped.latencies_ms[:20] == on.latencies_ms[:20]
    assert 0 < stopped.busy_s < 0.9 * on.busy_s


def test_one_seed_one_result() -> None:
    assert played(DETECT, "slo", 3, seed=1) == played(DETECT, "slo", 3, seed=1) != played(DETECT, "slo", 3, seed=2)


def test_a_late_replica_is_as_late_in_the_replay() -> None:
    alone = live.replayed(DETECT, ONE, 1, 0, requests=SHORT)
    beside = live.replayed(DETECT, "broadcast", 2, 0, requests=SHORT)
    assert min(alone) > live.LATE_MS
    assert min(beside) < live.LATE_MS


def test_from_a_recording_to_rows_goals_and_a_picture(tmp_path: Path) -> None:
    recordings = [DETECT, recording(SEGMENTATION, can_stop=False), PLAN]
    size = Size(COUNTS, requests=14, seeds=1, live_calls=0, workers=1, warm=4)
    todo = list(tasks(recordings, size, 0))
    keys = [(t.recording.scenario, t.condition.name, t.policy, t.replicas) for t in todo]
    assert len(keys) == len(set(keys)) == 3 * (1 + 5 * (MOST_REPLICAS - 1) + 2 * 3)
    cells = replay(recordings, size, 0, lambda _text: None)
    rows = [latency_row(cells, cell) for cell in cells.cells]
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    one = [row for row in rows if row["policy"] == ONE]
    assert {row["times_better"] for row in one} == {1.0}
    for row, cell in zip(rows, cells.cells, strict=True):
        assert row["p99_ms"] > row["limit_p99_ms"] - 1e-3
        assert cost_row(cells, cell)["used_spot"] < cost_row(cells, cell)["used_on_demand"]
    assert recording_row(DETECT)["runs"] == 30
    found = {goal.name: goal for goal in goals(cells, MOST_REPLICAS)}
    assert found["requests failed"].met
    assert found[f"{PLANNING}: P99 of one replica / broadcast over 4"].at_least
    plot.draw(Cells(cells.cells), [r.scenario for r in recordings], tmp_path / "new" / "p99.png")
    assert (tmp_path / "new" / "p99.png").stat().st_size > 10_000
