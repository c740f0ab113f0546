"""2,000 fixed seeds and 100 fresh ones: whole fleets under faults, every invariant after every event."""

from __future__ import annotations

import pytest

from skyfog_sim.replay import run
from support.fresh import fresh_seed

FIXED = 2_000
FRESH = 100
CHUNK = 50  # seeds a test
FOUND = (2_258_123_673, 2_258_123_887)  # fresh ones that broke something once
BASE = 1_000_000 + fresh_seed()


def assert_all_hold(first: int) -> None:
    failures = run(range(first, first + CHUNK)).failures
    assert not failures, "\n".join(["see it again with", *map(str, failures)])


@pytest.mark.parametrize("first", range(0, FIXED, CHUNK))
def test_fixed_seeds(first: int) -> None:
    assert_all_hold(first)


@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_broke_something_once(seed: int) -> None:
    failures = run([seed]).failures
    assert not failures, str(failures[0])


@pytest.mark.parametrize("first", range(BASE, BASE + FRESH, CHUNK))  # the seeds stand in the names of the tests
def test_fresh_seeds(first: int) -> None:
    assert_all_hold(first)
