"""Which experts stay in memory: never more than the cap, and none is left out that would fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyfog_inference.weights.residency import residency, spread

MODELS = st.integers(1, 6).flatmap(
    lambda experts: st.lists(st.lists(st.integers(1, 9), min_size=experts, max_size=experts), min_size=1, max_size=7)
)


@given(st.integers(0, 50), MODELS, st.integers(0, 600))
def test_the_cap_is_kept_and_used(fixed: int, experts: list[list[int]], cap: int) -> None:
    found = residency(fixed, experts, cap)
    least = fixed + min(2 * max(map(sum, experts)), sum(map(sum, experts)))
    if found is None:
        assert cap < least
        return
    streamed = [sum(pages[kept:]) for pages, kept in zip(experts, found.kept, strict=True)]
    assert found.bytes <= cap
    assert found.half == max(streamed)
    assert found.streamed == sum(streamed)
    assert found.bytes == fixed + sum(map(sum, experts)) - found.streamed + 2 * found.half
    if cap >= fixed + sum(map(sum, experts)):
        assert found.streamed == 0
        assert found.share == 1
    else:
        larger = residency(fixed, experts, cap + 1)
        assert larger is not None
        assert sum(larger.kept) >= sum(found.kept)


@given(st.integers(1, 20), st.integers(1, 8), st.data())
def test_experts_are_spread_evenly(layers: int, experts: int, data: st.DataObject) -> None:
    total = data.draw(st.integers(0, layers * experts))
    kept = spread(total, layers)
    assert len(kept) == layers
    assert sum(kept) == total
    assert max(kept) - min(kept) <= 1
    assert max(kept) <= experts
