"""No draw is negative or longer than `most_ns`, whatever the distribution."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from skyfog_sim.durations import Constant, Duration, Empirical, LogNormal, Uniform

ns = st.integers(0, 10**12)
durations: st.SearchStrategy[Duration] = st.one_of(
    st.builds(Constant, ns),
    st.builds(lambda low, more: Uniform(low, low + more), ns, ns),
    st.builds(LogNormal, ns, st.floats(0, 5), ns),
    st.lists(ns, min_size=1, max_size=20).map(Empirical.of_samples),
)


@given(durations, st.integers())
def test_draws_stay_within_their_bounds(duration: Duration, seed: int) -> None:
    random = Random(seed)
    assert all(0 <= duration.draw(random) <= duration.most_ns for _ in range(50))
