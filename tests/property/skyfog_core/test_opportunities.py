"""Traces of delivery opportunities."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyfog_core.opportunities import Opportunities


@given(
    at=st.lists(st.integers(0, 50), min_size=1, max_size=20).map(sorted),
    more=st.integers(1, 5),
    since=st.integers(-200, 200),
)
def test_no_opportunity_is_left_out(at: list[int], more: int, since: int) -> None:
    trace = Opportunities(at, at[-1] + more)
    number = trace.first(since)
    assert trace.time_ns(number) >= since > trace.time_ns(number - 1)
