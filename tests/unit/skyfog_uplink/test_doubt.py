"""The doubt that is allowed follows the misses."""

from __future__ import annotations

import random

import pytest

from skyfog_core.units import MS, S
from skyfog_uplink.policy.doubt import LEAST, MOST, PATIENCE_NS, Doubt


def test_a_miss_makes_careful_and_many_answers_in_time_make_bold_again() -> None:
    doubt = Doubt(0.1, 0.01)
    doubt.on_end(missed=True)
    assert 0.06 < doubt.allowed(0) < 0.09
    for _ in range(99):
        doubt.on_end(missed=False)
    assert doubt.allowed(0) == pytest.approx(0.1)


def test_it_stays_within_its_bounds() -> None:
    doubt = Doubt(0.9, 0.01)
    assert doubt.allowed(0) == MOST
    for _ in range(100):
        doubt.on_end(missed=True)
    assert doubt.allowed(0) == LEAST
    for _ in range(10_000):
        doubt.on_end(missed=False)
    assert doubt.allowed(0) == MOST


@pytest.mark.parametrize("truth", [0.3, 1.0, 3.0])
def test_the_share_of_misses_is_kept_whether_the_odds_are_too_bold_or_too_careful(truth: float) -> None:
    """Frames with doubts of all sizes miss `truth` times as often as their odds say."""
    draw, doubt, begun, missed = random.Random(1), Doubt(0.1, 0.01), 0, 0
    for _ in range(40_000):
        stated = draw.random() ** 3 * 0.5
        if stated <= doubt.allowed(0):
            miss = draw.random() < truth * stated
            begun, missed = begun + 1, missed + miss
            doubt.on_end(miss)
    assert missed / begun == pytest.approx(0.01, rel=0.15)


def all_missed() -> Doubt:
    doubt = Doubt(0.06, 0.01)
    for _ in range(20):
        doubt.on_end(missed=True)
    assert doubt.allowed(0) == LEAST
    return doubt


def withheld(doubt: Doubt, from_ns: int, to_ns: int) -> None:
    for now_ns in range(from_ns, to_ns + 1, 100 * MS):
        doubt.on_withheld(now_ns)


def test_where_all_are_withheld_it_grows_to_what_it_was_at_first_until_one_begins() -> None:
    doubt = all_missed()
    withheld(doubt, 0, PATIENCE_NS)
    assert doubt.allowed(PATIENCE_NS) == LEAST
    withheld(doubt, PATIENCE_NS, 2 * S)
    grown = doubt.allowed(2 * S)
    assert LEAST < grown < 0.06
    doubt.on_begun(2 * S)
    assert doubt.allowed(10 * S) == grown, "what it was begun with stays"
    withheld(doubt, 20 * S, 30 * S)
    assert doubt.allowed(30 * S) == 0.06


def test_time_without_frames_tells_it_nothing() -> None:
    doubt = all_missed()
    withheld(doubt, 0, S)
    assert doubt.allowed(60 * S) == LEAST
    withheld(doubt, 60 * S, 61 * S)
    assert doubt.allowed(61 * S) == LEAST
    doubt.on_withheld(-60 * S)  # the clock was set
    assert doubt.allowed(-60 * S) == LEAST


def test_a_doubt_beyond_the_first_stays() -> None:
    doubt = Doubt(0.06, 0.01)
    for _ in range(10_000):
        doubt.on_end(missed=False)
    withheld(doubt, 0, 30 * S)
    assert doubt.allowed(30 * S) == MOST
