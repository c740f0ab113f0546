"""Over any stretch of any history: at most the rate's integral and one burst."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from skyfog_core.units import S
from skyfog_uplink.policy.bucket import TokenBucket

rates = st.integers(0, 10**9)
depths = st.integers(0, 10**6)
steps = st.one_of(
    st.tuples(st.just("wait"), st.integers(0, 3 * S), st.just(0)),
    st.tuples(st.just("send"), st.integers(1, 10**6), st.just(0)),
    st.tuples(st.just("change"), rates, depths),
)


@given(rate=rates, depth=depths, history=st.lists(steps, max_size=40))
def test_never_above_the_rate_over_any_stretch_beyond_one_burst(
    rate: int, depth: int, history: list[tuple[str, int, int]]
) -> None:
    now_ns = 0
    bucket = TokenBucket(rate, depth, now_ns)
    allowed = Fraction(0)  # integral of the rate, bytes
    sent = 0
    begins = [(Fraction(0), 0, depth)]  # of stretches: integral, sent until then, depth then
    for what, one, other in history:
        if what == "wait":
            now_ns += one
            allowed += Fraction(rate * one, 8 * S)
        elif what == "change":
            rate, depth = one, other
            bucket.change(rate, depth, now_ns)
        elif bucket.fits(one, now_ns):
            bucket.take(one, now_ns)
            sent += one
        begins.append((allowed, sent, depth))
        for allowed_then, sent_then, depth_then in begins:
            assert sent - sent_then <= allowed - allowed_then + depth_then


@given(rate=st.integers(1, 10**9), depth=depths, size=st.integers(1, 10**6), taken=st.integers(0, 10**6))
def test_the_wait_is_exact(rate: int, depth: int, size: int, taken: int) -> None:
    bucket = TokenBucket(rate, depth, 0)
    if bucket.fits(taken, 0):
        bucket.take(taken, 0)
    wait_ns = bucket.wait_ns(size, 0)
    assert wait_ns is not None
    if wait_ns:
        assert not bucket.fits(size, wait_ns - 1)
    if size <= depth:
        assert bucket.fits(size, wait_ns)


@given(
    rate=st.integers(1, 10**8),
    depth=st.integers(1, 10**6),
    times=st.lists(st.integers(-(10**12), 10**12), max_size=30),
)
def test_whatever_the_clock_does_a_bucket_fills_again(rate: int, depth: int, times: list[int]) -> None:
    bucket = TokenBucket(rate, depth, 0)
    for now_ns in times:
        if bucket.fits(depth, now_ns):
            bucket.take(depth, now_ns)
        else:
            wait_ns = bucket.wait_ns(depth, now_ns)
            assert wait_ns is not None
            assert wait_ns <= -(-8 * S * depth // rate)
