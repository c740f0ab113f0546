"""Bytes over busy time."""

from __future__ import annotations

import pytest

from skyfog_core.units import MS, S
from skyfog_uplink.policy.capacity import FIRST_BPS, Capacity


def served(mbps: float, until_ms: int, every_ms: int = 100, busy_ms: int = 20, begin_ms: int = 0) -> Capacity:
    """Trains of 1 ms pieces: busy for a while, then idle."""
    capacity = Capacity(10 * S)
    for train in range(begin_ms, until_ms, every_ms):
        for piece in range(train, train + busy_ms):
            capacity.add(piece * MS, (piece + 1) * MS, int(mbps * 125))
    return capacity


def test_before_anything_is_known_a_first_rate_holds() -> None:
    capacity = Capacity(S)
    assert list(capacity.rates(0, 0.0, 0.0)) == [FIRST_BPS] * 3
    assert not capacity.known


def test_idle_time_does_not_count() -> None:
    fast, middle, slow = served(8.0, 20_000).rates(20 * S, 0.0, 0.0)
    assert (fast, middle) == (pytest.approx(8e6, rel=0.05), pytest.approx(8e6, rel=0.02))
    assert slow == pytest.approx(8e6, rel=0.05)


def test_a_short_train_counts_for_little() -> None:
    capacity = served(8.0, 10_000)
    capacity.add(10_000 * MS, 10_000 * MS + 100_000, 1_250)  # 100 Mbit/s for 0.1 ms
    assert capacity.rates(10 * S, 0.0, 0.0)[0] < 16e6


def test_in_silence_the_fast_scales_fall_back_to_the_slow_one() -> None:
    capacity = served(8.0, 20_000)
    for piece in range(20_000, 20_100):
        capacity.add(piece * MS, (piece + 1) * MS, 125)  # 1 Mbit/s for 100 ms
    soon, late = capacity.rates(20_110 * MS, 0.0, 0.0), capacity.rates(23 * S, 0.0, 0.0)
    assert soon[0] < 2.5e6
    assert late[0] == pytest.approx(late[2], rel=0.05)


def test_what_is_not_through_lowers_the_rate_only_where_it_should_be() -> None:
    capacity = served(8.0, 20_000)
    usual = capacity.rates(20 * S, 0.0, 0.0)
    assert capacity.rates(20 * S, 64_000.0, 0.007) == usual  # takes 8 ms
    assert capacity.rates(20 * S, 64_000.0, 0.08)[0] < usual[0] / 3
    assert capacity.rates(20 * S, 0.0, 0.2)[0] < usual[0] / 10


def test_the_record_is_read_between_its_points() -> None:
    capacity = Capacity(10 * S)
    capacity.add(0, 100 * MS, 1_000)
    capacity.add(200 * MS, 300 * MS, 3_000)
    assert capacity.between(50 * MS, 250 * MS) == (pytest.approx(4_000 + 12_000), pytest.approx(0.1))
    assert capacity.between(110 * MS, 190 * MS) == (0, 0)


def test_the_record_is_bounded_in_time() -> None:
    capacity = served(8.0, 200_000, busy_ms=50)
    assert len(capacity._ends_ns) < 6_000
    assert capacity.between(195 * S, 196 * S)[0] == pytest.approx(4e6, rel=0.05)
