"""The arithmetic of `skyfog bench inference_neo`."""

from __future__ import annotations

import pytest

from skyfog_bench.inference.neo import (
    ALONE,
    BOTH_CORES,
    NEO,
    PROMPT,
    QUICK,
    Result,
    _equal_latency,
    _goals,
    drawn,
    rate_within,
)


@pytest.mark.parametrize(
    ("limit", "rate"),
    [(5.0, 0.5), (10.0, 1.0), (15.0, 1.5), (30.0, 2.5), (40.0, 3.0), (90.0, 3.0)],
)
def test_the_rate_within_a_limit_is_linear_between_those_that_were_run(limit: float, rate: float) -> None:
    assert rate_within(limit, [1.0, 2.0, 3.0], [10.0, 20.0, 40.0]) == pytest.approx(rate)


def test_one_seed_asks_the_same_and_keeps_to_the_bounds() -> None:
    asked = drawn(1, 50, (20, 40), 1_000, rate=2.0)
    assert asked == drawn(1, 50, (20, 40), 1_000, rate=2.0)
    assert asked != drawn(2, 50, (20, 40), 1_000, rate=2.0)
    quicker = drawn(1, 50, (20, 40), 1_000, rate=4.0)
    assert [(one.prompt, one.output) for one in quicker] == [(one.prompt, one.output) for one in asked]
    assert [one.at_s for one in quicker] == pytest.approx([one.at_s / 2 for one in asked])
    assert all(PROMPT[0] <= len(one.prompt) <= PROMPT[1] and 20 <= one.output <= 40 for one in asked)
    assert [one.at_s for one in asked] == sorted(one.at_s for one in asked)
    assert 10 < asked[-1].at_s < 50
    assert {one.at_s for one in drawn(1, 5, (20, 40), 1_000)} == {0.0}


def test_goals_compare_round_by_round() -> None:
    def result(speed: float, ms: float) -> Result:
        return Result(speed, (ms,), 0, None)

    saturated = {(30, ALONE): [result(10, 1)], (30, NEO): [result(15, 1)]}
    curves = {
        ALONE: {1.0: [result(1, 10)], 2.0: [result(1, 30)]},  # at most 20 ms: a rate of 1.5
        NEO: {1.0: [result(1, 8)], 2.0: [result(1, 12)]},  # 2
        BOTH_CORES: {1.0: [result(1, 8)], 2.0: [result(1, 32)]},  # 1.5
    }
    assert [goal.value for goal in _goals(QUICK, saturated, curves)] == pytest.approx([2 / 1.5, 1.5])
    assert _equal_latency(curves, BOTH_CORES).value == pytest.approx(1.0)
