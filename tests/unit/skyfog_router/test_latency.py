"""What a sketch says of latencies: truly, in spite of waits that were cut short, and of what is now."""

from __future__ import annotations

import math
from random import Random

import pytest

from skyfog_core.units import MS, US, S
from skyfog_router.policy.latency import BUCKETS, GAMMA, HALF_LIFE_NS, LEAST_NS, MEMORY, LatencySketch

QUANTILES = (0.05, 0.5, 0.9, 0.95, 0.99)
WIDE = 4_000.0  # memory: so that a large sample counts as a whole


def sketch_of(values_ns: list[int], memory: float = 1e9) -> LatencySketch:
    sketch = LatencySketch(memory)
    for value in values_ns:
        sketch.answer(value, 0)
    return sketch


@pytest.mark.parametrize(
    "draw",
    [
        lambda random: random.uniform(5, 50),
        lambda random: random.lognormvariate(3, 0.7),
        lambda random: random.expovariate(0.1) + 1,
        lambda random: random.choice((4.0, 400.0)) * random.uniform(0.9, 1.1),
    ],
    ids=["uniform", "log-normal", "exponential", "two humps"],
)
def test_quantiles_are_within_4_percent(draw) -> None:  # type: ignore[no-untyped-def]
    random = Random(1)
    values = sorted(round(draw(random) * MS) for _ in range(5_001))
    sketch = sketch_of(values)
    for q in QUANTILES:
        found = sketch.quantile(q)
        assert found is not None
        near = values[math.floor(q * 5_000) - 10], values[math.ceil(q * 5_000) + 10]  # the sample's own steps
        assert near[0] / 1.04 <= found <= near[1] * 1.04


def test_waits_that_were_cut_short_do_not_bias_the_estimate_but_would_if_left_out() -> None:
    random, mean_ns = Random(2), 20 * MS
    told, answers_only = LatencySketch(WIDE), LatencySketch(WIDE)
    for _ in range(4_000):
        took = round(random.expovariate(1 / mean_ns))
        cut = round(random.expovariate(1 / mean_ns))  # half of the waits are cut before the answer
        if took <= cut:
            told.answer(took, 0)
            answers_only.answer(took, 0)
        else:
            told.censor(cut, 0)
    for q in (0.25, 0.5, 0.8, 0.9):
        truth = -math.log(1 - q) * mean_ns
        assert told.quantile(q) == pytest.approx(truth, rel=0.12)
        assert (answers_only.quantile(q) or 0) < 0.6 * truth


def test_what_is_never_answered_counts_as_unanswered_for_ever() -> None:
    sketch = LatencySketch()
    for _ in range(30):
        sketch.answer(10 * MS, 0)
        sketch.never(0)
    assert sketch.survival(3_600 * S) == pytest.approx(0.5, abs=0.03)
    assert sketch.quantile(0.4) == pytest.approx(10 * MS, rel=0.04)
    assert sketch.quantile(0.9) is None, "fewer ever are"


def test_nothing_known_says_nothing() -> None:
    sketch = LatencySketch()
    sketch.censor(50 * MS, 0)
    assert (sketch.count, sketch.quantile(0.5), sketch.survival(S)) == (0.0, None, 1.0)


def test_nothing_is_ever_certain() -> None:
    sketch = sketch_of([10 * MS] * 9)
    assert sketch.survival(S) == pytest.approx(0.5 / 10)
    assert sketch.survival(LEAST_NS) == 1.0


@pytest.mark.parametrize("ns", [1, LEAST_NS, 21 * US, 33 * MS, 4 * S, 10_000 * S])
def test_every_latency_has_a_place(ns: int) -> None:
    sketch = sketch_of([ns] * 20)
    longest = LEAST_NS * GAMMA ** (BUCKETS - 1)
    assert sketch.quantile(0.5) == pytest.approx(min(max(ns, LEAST_NS), longest), rel=0.05)


def test_half_a_half_life_of_newer_answers_outweighs_older_ones() -> None:
    sketch = sketch_of([10 * MS] * 100, MEMORY)
    for _ in range(40):
        sketch.answer(100 * MS, 2 * HALF_LIFE_NS)
    assert sketch.quantile(0.5) == pytest.approx(100 * MS, rel=0.05), "100 old ones weigh about 25"


def test_a_change_is_believed_after_as_many_answers_as_the_memory_halves_in() -> None:
    sketch = sketch_of([10 * MS] * 2_000, MEMORY)
    for number in range(round(0.75 * MEMORY)):
        sketch.answer(100 * MS, 0)
        if number == round(0.6 * MEMORY):
            assert sketch.quantile(0.5) == pytest.approx(10 * MS, rel=0.05)
    assert sketch.quantile(0.5) == pytest.approx(100 * MS, rel=0.05)


def test_the_count_is_what_weighs_now() -> None:
    assert sketch_of([MS] * 10_000, MEMORY).count == pytest.approx(MEMORY, rel=0.01)


def test_many_thousand_observations_and_a_long_idle_change_nothing_of_the_shape() -> None:
    random, sketch = Random(3), LatencySketch()
    for number in range(30_000):
        sketch.answer(round(random.uniform(10, 20) * MS), number * MS)
    before = [sketch.quantile(q) for q in QUANTILES]
    sketch.censor(1, 30 * S + 10_000 * S)  # so long after that the weights are scaled back
    for q, old in zip(QUANTILES, before, strict=True):
        assert sketch.quantile(q) == pytest.approx(old, rel=0.03)
        assert old == pytest.approx((10 + 10 * q) * MS, rel=0.06)
    assert sketch.count < 1.0
    sketch.answer(90 * MS, 10_040 * S)
    assert sketch.quantile(0.5) == pytest.approx(90 * MS, rel=0.05), "and one new answer is all that counts"


def test_weights_never_grow_beyond_all_bounds() -> None:
    sketch = LatencySketch(memory=10)
    for _ in range(10_000):  # 1.1 ** 10,000 is no number
        sketch.answer(10 * MS, 0)
    assert sketch.count == pytest.approx(11, rel=0.01)
    assert sketch.quantile(0.5) == pytest.approx(10 * MS, rel=0.04)


def test_a_clock_that_stands_or_steps_back_ages_nothing() -> None:
    sketch = sketch_of([10 * MS] * 50)
    sketch.answer(10 * MS, -5 * S)
    assert sketch.count == pytest.approx(51, rel=0.01)


def test_the_hazard_at_the_answer_is_exponential_with_mean_1_to_a_sound_replica() -> None:
    random = Random(4)
    sketch = sketch_of([round(random.lognormvariate(3, 0.5) * MS) for _ in range(3_000)], WIDE)
    hazards = [sketch.hazard(round(random.lognormvariate(3, 0.5) * MS)) for _ in range(3_000)]
    assert sum(hazards) / len(hazards) == pytest.approx(1.0, abs=0.08)
    assert sum(h >= 4.0 for h in hazards) / len(hazards) == pytest.approx(math.exp(-4), abs=0.01)
