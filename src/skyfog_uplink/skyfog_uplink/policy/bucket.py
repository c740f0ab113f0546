"""A token bucket in whole numbers: over any stretch of time, no more than rate times its length plus one burst.

Tokens are counted in bits times nanoseconds a second, so that `rate_bps` tokens come in each nanosecond and nothing is
ever rounded. The level is at most the depth at any time, and what is taken is there: from these two, the bound follows
for any stretch, also over changes of rate and depth (with the rate integrated, and the depth as it was at the begin).
"""

from __future__ import annotations

from skyfog_core.units import S

_BYTE = 8 * S  # tokens


class TokenBucket:
    """Full at first. `rate_bps` and `depth_bytes` are whole numbers, not negative."""

    def __init__(self, rate_bps: int, depth_bytes: int, now_ns: int) -> None:
        assert rate_bps >= 0
        assert depth_bytes >= 0
        self.rate_bps, self.depth_bytes = rate_bps, depth_bytes
        self._level = depth_bytes * _BYTE
        self._as_of_ns = now_ns

    def change(self, rate_bps: int, depth_bytes: int, now_ns: int) -> None:
        """From now on. What was saved under the old rate stays, as far as the new depth holds it."""
        assert rate_bps >= 0
        assert depth_bytes >= 0
        self._fill(now_ns)
        self.rate_bps, self.depth_bytes = rate_bps, depth_bytes
        self._level = min(self._level, depth_bytes * _BYTE)

    def fits(self, size: int, now_ns: int) -> bool:
        """Whether `size` bytes may go now."""
        self._fill(now_ns)
        return size * _BYTE <= self._level

    def take(self, size: int, now_ns: int) -> None:
        """They go. They must fit."""
        self._fill(now_ns)
        self._level -= size * _BYTE
        assert self._level >= 0, "more was taken than fits"

    def wait_ns(self, size: int, now_ns: int) -> int | None:
        """Until tokens for `size` bytes have come, as if no depth held them back; None: never at this rate."""
        self._fill(now_ns)
        missing = size * _BYTE - self._level
        if missing <= 0:
            return 0
        return -(-missing // self.rate_bps) if self.rate_bps else None

    def _fill(self, now_ns: int) -> None:
        """A clock that went back brings no tokens; one that leapt forward no more than the depth."""
        if now_ns > self._as_of_ns:
            level = self._level + self.rate_bps * (now_ns - self._as_of_ns)
            full = self.depth_bytes * _BYTE
            self._level = min(level, full)
        self._as_of_ns = now_ns
