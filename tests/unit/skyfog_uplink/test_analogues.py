"""Conditional quantiles from moments alike."""

from __future__ import annotations

import random

import pytest

from skyfog_uplink.policy.analogues import REMEMBERED, Analogues, Prior

LEVELS = (0.1, 0.5, 0.9)
PRIOR = Prior(LEVELS, (-1.0, 0.0, 1.0), weight=5.0)


def test_before_anything_is_learnt_the_prior_holds() -> None:
    assert Analogues((1.0,), LEVELS, PRIOR).quantiles((3.0,)) == [-1.0, 0.0, 1.0]


def test_the_priors_shares_are_half_way_to_the_neighbours() -> None:
    assert PRIOR.shares().tolist() == pytest.approx([1.5, 2.0, 1.5])


def test_what_followed_alike_moments_is_expected_and_not_what_followed_others() -> None:
    draw, analogues = random.Random(1), Analogues((0.3,), LEVELS, PRIOR)
    for _ in range(500):
        kind = draw.choice([0.0, 4.0])
        analogues.learn((kind + draw.gauss(0, 0.1),), 10 * kind + draw.uniform(0, 10))
    calm, wild = analogues.quantiles((0.0,)), analogues.quantiles((4.0,))
    assert calm == pytest.approx([1, 5, 9], abs=1.0)
    assert wild == pytest.approx([41, 45, 49], abs=1.0)


def test_the_oldest_moments_are_forgotten() -> None:
    analogues = Analogues((1.0,), LEVELS, PRIOR)
    for at in range(3 * REMEMBERED):
        analogues.learn((0.0,), 100.0 if at < 2 * REMEMBERED else 7.0)
    assert len(analogues) == REMEMBERED
    assert analogues.quantiles((0.0,)) == [7.0, 7.0, 7.0]
