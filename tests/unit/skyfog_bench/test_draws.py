"""Drawn service times, and the numbers by which calls find them."""

from __future__ import annotations

from statistics import median

from skyfog_bench.draws import ServiceTimes
from skyfog_bench.messages import LONE_LANE, index_of, lane_of, number

TIMES = ServiceTimes(20.0, slow_share=0.1, slow_ms=300.0)


def test_a_draw_depends_on_seed_zone_and_index_alone() -> None:
    assert TIMES.ms(1, "a", 5) == TIMES.ms(1, "a", 5)
    others = {TIMES.ms(1, "a", 6), TIMES.ms(1, "b", 5), TIMES.ms(2, "a", 5)}
    assert len(others - {TIMES.ms(1, "a", 5)}) == 3


def test_most_are_around_the_median_and_the_share_is_slow() -> None:
    drawn = [TIMES.ms(0, "a", i) for i in range(2_000)]
    assert 19.0 < median(drawn) < 22.0
    assert 0.08 < sum(ms == 300.0 for ms in drawn) / len(drawn) < 0.12


def test_a_number_holds_lane_and_index_and_fits_eight_bytes() -> None:
    numbered = number(LONE_LANE, 4_000_000_000)
    assert (lane_of(numbered), index_of(numbered)) == (LONE_LANE, 4_000_000_000)
    assert numbered.bit_length() <= 63
