"""The bottleneck against a plain model that steps through every opportunity."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skyfog_core.units import MS
from skyfog_sim.uplink_link import Bottleneck, fixed_rtt, of_times


def deliveries(times_ms: list[int], messages: list[tuple[int, int]]) -> list[int]:
    """When each (ns, bytes) is through, by walking along the opportunities as mahimahi does."""
    period = max(1, times_ms[-1])
    slots = np.bincount(np.array(times_ms) % period, minlength=period) * 1500
    slot, left = 0, int(slots[0])
    found = []
    for at_ns, wanted in messages:
        size = wanted
        while slot * MS < at_ns:
            slot += 1
            left = int(slots[slot % period])
        while size > 0:
            take = min(size, left)
            size, left = size - take, left - take
            if size:
                slot += 1
                left = int(slots[slot % period])
        found.append(max(at_ns, slot * MS))
    return found


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=30).map(sorted),
    st.lists(st.tuples(st.integers(0, 400 * MS), st.integers(1, 9_000)), min_size=1, max_size=20).map(sorted),
)
def test_bottleneck_delivers_as_a_walk_along_the_opportunities(
    times_ms: list[int], messages: list[tuple[int, int]]
) -> None:
    link = Bottleneck(of_times("t", times_ms), fixed_rtt(0), buffer_bytes=1 << 30)
    assert [link.carry(size, at) for at, size in messages] == deliveries(times_ms, messages)
