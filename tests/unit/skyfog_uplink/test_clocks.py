"""How the gateway's clock stands to the car's."""

from __future__ import annotations

from skyfog_core.units import MS, S
from skyfog_uplink.policy.clocks import ClockBounds

AHEAD = 7 * S  # the gateway's clock


def tell(clocks: ClockBounds, sent_ns: int, up_ns: int, down_ns: int, ahead_ns: int = AHEAD) -> bool:
    """A message there and back; whether it fitted."""
    received_ns, now_ns = sent_ns + up_ns + ahead_ns, sent_ns + up_ns + down_ns
    fits = clocks.fit(received_ns - now_ns, received_ns - sent_ns)
    clocks.add(received_ns - now_ns, received_ns - sent_ns, now_ns)
    return fits


def test_bounds_close_around_the_difference() -> None:
    clocks = ClockBounds(10 * S)
    assert not clocks.known
    for at, (up_ms, down_ms) in enumerate([(50, 20), (15, 80), (30, 10)]):
        assert tell(clocks, at * S, up_ms * MS, down_ms * MS)
    assert (clocks.lower_ns - AHEAD, clocks.upper_ns - AHEAD) == (-10 * MS, 15 * MS)
    assert clocks.least_trip_ns == 25 * MS


def test_a_message_that_no_difference_explains_does_not_fit() -> None:
    clocks = ClockBounds(10 * S)
    tell(clocks, 0, 15 * MS, 15 * MS)
    assert not tell(clocks, S, 15 * MS, 15 * MS, AHEAD + 50 * MS)
    clocks.clear()
    assert tell(clocks, 2 * S, 15 * MS, 15 * MS, AHEAD + 50 * MS)


def test_a_longer_route_is_learnt_after_two_windows() -> None:
    clocks = ClockBounds(2 * S)
    tell(clocks, 0, 10 * MS, 10 * MS)
    least = []
    for at in range(1, 60):
        tell(clocks, at * 100 * MS, 40 * MS, 40 * MS)
        least.append(clocks.least_trip_ns)
    assert least[0] == 20 * MS
    assert least[-1] == 80 * MS


def test_drift_is_followed() -> None:
    clocks = ClockBounds(10 * S)
    for at in range(600):  # a minute, 0.02 % fast
        assert tell(clocks, at * 100 * MS, 15 * MS, 15 * MS, AHEAD + at * 20_000)
    assert clocks.least_trip_ns > 24 * MS
