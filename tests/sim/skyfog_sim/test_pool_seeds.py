"""1,000 fixed seeds and 50 fresh ones of pool and router together: every invariant after every event and decision."""

from __future__ import annotations

import pytest

from skyfog_sim.pool_draw import KINDS
from skyfog_sim.pool_seeds import replay, run
from support.fresh import fresh_seed

FIXED = 1_000
FRESH = 50
CHUNK = 50  # seeds a test
BASE = 1_000_000 + fresh_seed()


def assert_all_hold(first: int) -> None:
    tally = run(range(first, first + CHUNK))
    assert not tally.failures, "\n".join(["see it again with", *map(str, tally.failures)])
    counts = tally.counts
    assert counts["outcomes"]["delivered"] > 10 * CHUNK, "hardly a request is answered"
    assert counts["pool"]["READY"] > 2 * CHUNK


@pytest.mark.parametrize("first", range(0, FIXED, CHUNK))
def test_fixed_seeds(first: int) -> None:
    assert_all_hold(first)


@pytest.mark.parametrize("first", range(BASE, BASE + FRESH, CHUNK))  # the seeds stand in the names of the tests
def test_fresh_seeds(first: int) -> None:
    assert_all_hold(first)


@pytest.mark.parametrize("seed", range(10))
def test_one_seed_gives_one_history(seed: int) -> None:
    (one, why), (other, _) = replay(seed), replay(seed)
    assert not why
    assert len(one.history.entries) > 100
    assert one.history.digest() == other.history.digest()


def test_every_fault_and_every_end_is_met() -> None:
    tally = run(range(200))
    assert tally.counts["faults"].keys() == set(KINDS)
    met = tally.counts["pool"]
    for state in ("READY", "NOT_READY", "DRAINING", "SHUTTING_DOWN", "FAILED_CLEANUP", "leak given back"):
        assert met[state], state


def test_a_machine_that_is_given_back_before_it_ran_costs_nothing() -> None:
    assert replay(1021, "spothedge")[1] == ""
