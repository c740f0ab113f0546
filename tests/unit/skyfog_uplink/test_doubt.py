"""The doubt that is allowed follows the misses."""

from __future__ import annotations

import random

import pytest

from skyfog_uplink.policy.doubt import LEAST, MOST, Doubt


def test_a_miss_makes_careful_and_many_answers_in_time_make_bold_again() -> None:
    doubt = Doubt(0.1, 0.01)
    doubt.on_end(missed=True)
    assert 0.06 < doubt.allowed < 0.09
    for _ in range(99):
        doubt.on_end(missed=False)
    assert doubt.allowed == pytest.approx(0.1)


def test_it_stays_within_its_bounds() -> None:
    doubt = Doubt(0.9, 0.01)
    assert doubt.allowed == MOST
    for _ in range(100):
        doubt.on_end(missed=True)
    assert doubt.allowed == LEAST
    for _ in range(10_000):
        doubt.on_end(missed=False)
    assert doubt.allowed == MOST


@pytest.mark.parametrize("truth", [0.3, 1.0, 3.0])
def test_the_share_of_misses_is_kept_whether_the_odds_are_too_bold_or_too_careful(truth: float) -> None:
    """Frames with doubts of all sizes miss `truth` times as often as their odds say."""
    draw, doubt, begun, missed = random.Random(1), Doubt(0.1, 0.01), 0, 0
    for _ in range(40_000):
        stated = draw.random() ** 3 * 0.5
        if stated <= doubt.allowed:
            miss = draw.random() < truth * stated
            begun, missed = begun + 1, missed + miss
            doubt.on_end(miss)
    assert missed / begun == pytest.approx(0.01, rel=0.15)
