"""What is known of the service time, from what was measured lately."""

from __future__ import annotations

from skyfog_core.units import MS, S
from skyfog_router.policy.service_time import MAX_AGE_NS, MIN_SAMPLES, WINDOW, ServiceTime


def measured(*took_ms: int, now_ns: int = 0) -> ServiceTime:
    times = ServiceTime()
    for one in took_ms:
        times.ran(one * MS, now_ns)
        times.check()
    return times


def test_few_samples_say_nothing_of_the_least() -> None:
    assert measured(*[5] * (MIN_SAMPLES - 1)).low_ns == 0
    assert measured(*[5] * MIN_SAMPLES).low_ns == 5 * MS


def test_the_least_is_a_low_quantile_that_one_fast_run_in_forty_does_not_change() -> None:
    assert measured(1, *range(100, 139)).low_ns == 101 * MS
    assert measured(*range(100, 140)).typical_ns == 120 * MS


def test_a_few_fast_ones_in_a_mix_keep_it_low() -> None:
    assert measured(*[500] * 36, *[5] * 4).low_ns == 5 * MS


def test_what_is_long_past_is_forgotten() -> None:
    times = measured(*[500] * WINDOW)
    for _ in range(WINDOW - 1):
        times.ran(5 * MS, 1)
    assert times.low_ns == times.typical_ns == 5 * MS
    times.check()


def test_what_is_too_old_is_forgotten() -> None:
    times = measured(*[500] * MIN_SAMPLES)
    times.forget(MAX_AGE_NS - 1)
    assert times.low_ns == 500 * MS
    times.forget(MAX_AGE_NS)
    assert times.low_ns == times.typical_ns == 0
    times.check()


def test_the_mean_time_in_a_slot_follows_what_happens_and_counts_the_withdrawn() -> None:
    times = ServiceTime()
    assert times.slot_ns == 0
    times.left(S)
    assert times.slot_ns == S
    for _ in range(100):
        times.left(S)
        times.left(0)
    assert abs(times.slot_ns - S / 2) < S / 20
