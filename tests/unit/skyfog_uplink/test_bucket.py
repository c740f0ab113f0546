"""A token bucket: what fits, when the next fits, and what changes and clocks do to it."""

from __future__ import annotations

import pytest

from skyfog_core.units import MS, S
from skyfog_uplink.policy.bucket import TokenBucket


def test_a_full_bucket_lets_its_depth_pass_and_no_byte_more() -> None:
    bucket = TokenBucket(8_000, 1_000, 0)
    assert bucket.fits(1_000, 0)
    assert not bucket.fits(1_001, 0)
    bucket.take(1_000, 0)
    assert not bucket.fits(1, 0)


def test_tokens_come_at_the_rate_to_the_nanosecond() -> None:
    bucket = TokenBucket(8_000, 1_000, 0)  # a byte a millisecond
    bucket.take(1_000, 0)
    assert bucket.wait_ns(10, 0) == 10 * MS
    assert not bucket.fits(10, 10 * MS - 1)
    assert bucket.fits(10, 10 * MS)


def test_many_small_steps_bring_as_much_as_a_large_one() -> None:
    bucket = TokenBucket(7, 1_000, 0)  # a rate at which no step brings a whole byte
    bucket.take(1_000, 0)
    for at in range(1, 8_001):
        bucket.fits(1, at * MS)
    assert bucket.fits(7, 8 * S)
    assert not bucket.fits(8, 8 * S)


def test_no_more_is_saved_than_the_depth() -> None:
    bucket = TokenBucket(8_000_000, 500, 0)
    assert bucket.wait_ns(1_500, 100 * S) == 1 * MS, "the wait counts what is beyond the depth too"
    bucket.take(500, 100 * S)
    assert not bucket.fits(1, 100 * S)


def test_without_a_rate_what_was_saved_is_all_there_is() -> None:
    bucket = TokenBucket(0, 100, 0)
    assert bucket.wait_ns(100, 0) == 0
    assert bucket.wait_ns(101, 0) is None
    bucket.take(100, 0)
    assert bucket.wait_ns(1, S) is None


def test_a_change_keeps_what_was_saved_as_far_as_it_fits() -> None:
    bucket = TokenBucket(8_000, 1_000, 0)
    bucket.take(400, 0)
    bucket.change(80_000, 500, 100 * MS)  # 600 + 100 are there, 500 stay
    assert bucket.fits(500, 100 * MS)
    assert not bucket.fits(501, 100 * MS)
    bucket.change(80_000, 5_000, 100 * MS)
    assert not bucket.fits(501, 100 * MS), "a deeper bucket is not a fuller one"


def test_a_clock_that_goes_back_brings_nothing_and_stops_nothing() -> None:
    bucket = TokenBucket(8_000, 1_000, 100 * S)
    bucket.take(1_000, 100 * S)
    assert not bucket.fits(1, 40 * S)
    assert bucket.fits(10, 40 * S + 10 * MS)


def test_taking_what_does_not_fit_is_a_fault_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        TokenBucket(8_000, 10, 0).take(11, 0)
