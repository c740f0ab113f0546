"""The simulation that is laid beside a live run of the uplink."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skyfog_bench.uplink_live import compare
from skyfog_bench.uplink_live.calibrate import Times
from skyfog_bench.uplink_live.compare import Played
from skyfog_bench.uplink_live.record import Run
from skyfog_core.opportunities import Opportunities
from skyfog_core.units import MS, S
from skyfog_sim.uplink_link import RttModel
from skyfog_uplink.policy.model import Floor, Option, Service, Table, constant

MET_S, FAST_S, LEAD_S, COUNTS_S = 100, 4, 4, 20
TEN = constant(10.0)
OPTIONS = (Option("small", "m", 0.5, TEN, TEN, TEN), Option("large", "m", 0.9, TEN, TEN, TEN))
TABLE = Table("t", "", (Service("front", "/detect", "Detect", 3.0, 500.0, 0.95, 1.0, Floor("f", 0.2, TEN), OPTIONS),))


def played(tmp_path: Path, every_ms: int, length_ms: int = 1_000, floor_ms: float = 80.0) -> Played:
    """A camera at 3 Hz with images of 3 and 12 kB, on a link with an opportunity each `every_ms`."""
    path = tmp_path / "link.up"
    Opportunities([ms * MS for ms in range(every_ms, length_ms + 1, every_ms)], length_ms * MS).write(path)
    begins_ns, starts_ns = MET_S * S, (MET_S + FAST_S) * S
    run = Run(starts_ns + LEAD_S * S, starts_ns + (LEAD_S + COUNTS_S) * S, [], [], [], [], [])
    shots = [{"index": at, "shot_ns": begins_ns + round((at + 0.5) * S / 3)} for at in range(3 * 40)]
    samples = {("front", option): [10.0, 12.0, 14.0] for option in range(2)}
    return Played(
        TABLE,
        {"front": np.array([[3_000, 12_000], [3_100, 12_400]])},
        {"front": shots},
        Times(samples, {key: [40.0, 45.0, 50.0] for key in samples}, {"front": [floor_ms]}),
        RttModel(32.0, 34.0, 38.0, spell_ms=50.0),
        path,
        0.0,
        begins_ns,
        starts_ns,
        run,
    )


def test_on_a_fast_link_the_cloud_answers_all_and_on_a_dead_one_the_car_does(tmp_path: Path) -> None:
    fast = compare.simulate(played(tmp_path, 1), seed=1)
    assert (fast.met, fast.by_cloud) == (1.0, 1.0)
    assert fast.utility == pytest.approx(0.9, abs=0.02)
    dead = compare.simulate(played(tmp_path, 60_000, 60_000), seed=1)
    assert (dead.met, dead.by_cloud, dead.utility) == (1.0, 0.0, pytest.approx(0.2))


def test_a_floor_that_is_late_answers_nothing(tmp_path: Path) -> None:
    dead = compare.simulate(played(tmp_path, 60_000, 60_000, floor_ms=600.0), seed=1)
    assert (dead.met, dead.utility) == (0.0, 0.0)


def test_one_seed_gives_one_simulation(tmp_path: Path) -> None:
    thin = played(tmp_path, 20)
    assert compare.simulate(thin, seed=3) == compare.simulate(thin, seed=3)


def test_the_trace_is_entered_where_the_live_link_entered_it(tmp_path: Path) -> None:
    path = tmp_path / "link.up"
    half = played(tmp_path, 1)
    Opportunities([ms * MS for ms in (*range(1, 40_000), 80_000)], 80_000 * MS).write(path)  # then 40 s of nothing
    assert compare.simulate(half, seed=1).by_cloud == 1.0
    assert compare.simulate(replace(half, offset_s=45.0), seed=1).by_cloud < 0.1


def test_the_distance_is_that_of_a_link_without_stalls() -> None:
    links = [
        {"up": True, "rtt_min_ms": 30.0, "rtt_p50_ms": 34.0, "rtt_p90_ms": 38.0, "rtt_p99_ms": 90.0},
        {"up": False, "rtt_min_ms": 0.0, "rtt_p50_ms": 0.0, "rtt_p90_ms": 0.0, "rtt_p99_ms": 0.0},
    ]
    found = compare.distance_of(links)
    assert (found.min_ms, found.p50_ms) == (30.0, 34.0)
    assert 38.0 < found.p99_ms < 50.0
