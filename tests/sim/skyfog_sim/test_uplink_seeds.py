"""A car on its uplink under faults: fixed seeds and fresh ones, every invariant as it goes."""

from __future__ import annotations

import pytest

from skyfog_sim.uplink import UplinkWorld
from skyfog_sim.uplink_contenders import BASELINES, TURBOS, ours
from skyfog_sim.uplink_seeds import KINDS, draw, replay, run
from support.fresh import fresh_seed
from support.uplink_tables import small_car

FIXED = 60
FRESH = 10
CHUNK = 10  # seeds a test
BASE = 1_000_000 + fresh_seed()


@pytest.mark.parametrize("first", range(0, FIXED, CHUNK))
def test_fixed_seeds(first: int) -> None:
    seen = run(range(first, first + CHUNK), small_car())
    assert not seen.failures, "\n".join(seen.failures)
    assert seen.met["on_time"] > 20 * CHUNK, "hardly a frame is answered by the cloud"


@pytest.mark.parametrize("first", range(BASE, BASE + FRESH, CHUNK))  # the seeds stand in the names of the tests
def test_fresh_seeds(first: int) -> None:
    seen = run(range(first, first + CHUNK), small_car())
    assert not seen.failures, "\n".join(seen.failures)


def test_every_fault_and_every_end_is_met() -> None:
    faults = {fault.kind for seed in range(FIXED) for fault in draw(seed, small_car()).faults}
    assert faults == set(KINDS)
    seen = run(range(20), small_car())
    assert {"on_time", "late", "withheld", "replaced", "cut", "outage"} <= seen.met.keys()


@pytest.mark.parametrize("contender", [*BASELINES.values(), *TURBOS, ours()], ids=lambda contender: contender.name)
def test_one_seed_gives_one_history(contender: object) -> None:
    drive = draw(3, small_car(), ()).drive
    one, other = (UplinkWorld(drive, contender).run() for _ in range(2))  # type: ignore[arg-type]
    assert one == other
    assert one.frames > 100


def test_a_minute_without_a_link_leaves_the_floor_and_nothing_open() -> None:
    tally, why = replay(7, small_car(), kinds=("outage", "break"))
    assert not why
    assert tally.met["plans"] > 10
