"""The gateway's clock beside the car's: what messages there and back tell of their difference.

A message sent at s, received at r by the gateway's clock and acknowledged by a bounds the difference d of the clocks:
r - a <= d <= r - s. The least upper bound is that of the message that was fastest on its way up: r - upper is when a
message received at r was sent at the latest, and upper - lower is the least round trip. A message that no d fits tells
that a clock has jumped. Bounds are of the last one to two windows, so that drift and changed routes are followed.
"""

from __future__ import annotations

from skyfog_core.units import MS

SLACK_NS = 2 * MS  # clocks drift apart by 0.1 ms a second within a window


class ClockBounds:
    """Greatest lower and least upper bound of the gateway's clock less the car's, ns."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self.clear()

    def clear(self) -> None:
        """Nothing is known."""
        self._turned_ns = 0
        self._now: tuple[int, int] | None = None
        self._before: tuple[int, int] | None = None
        self.lower_ns = self.upper_ns = 0

    @property
    def known(self) -> bool:
        """Whether there was a message at all."""
        return self._now is not None

    @property
    def least_trip_ns(self) -> int:
        """There and back."""
        return max(self.upper_ns - self.lower_ns, 0)

    def fit(self, lower_ns: int, upper_ns: int) -> bool:
        """Whether one difference explains this message and those before."""
        return not self.known or (lower_ns <= self.upper_ns + SLACK_NS and upper_ns >= self.lower_ns - SLACK_NS)

    def add(self, lower_ns: int, upper_ns: int, now_ns: int) -> None:
        """One more message."""
        if self._now is None or now_ns - self._turned_ns > self._window_ns:
            self._before, self._now, self._turned_ns = self._now, (lower_ns, upper_ns), now_ns
        elif lower_ns > self._now[0] or upper_ns < self._now[1]:
            self._now = (max(self._now[0], lower_ns), min(self._now[1], upper_ns))
        else:
            return
        lower, upper = self._now
        if self._before is not None:
            lower, upper = max(lower, self._before[0]), min(upper, self._before[1])
        self.lower_ns, self.upper_ns = lower, upper
