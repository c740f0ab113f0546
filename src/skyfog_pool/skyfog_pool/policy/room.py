"""Whether a zone has machines to be had: what was refused or taken there, and when to ask again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skyfog_core.units import S

PROBE_MIN_NS = 60 * S  # capacity moves in minutes
PROBE_MAX_NS = 600 * S
# An outage that has lasted for long lasts on (recorded outages: quantiles at 10, 40 and 220 minutes), so that the wait
# grows with it: at most so much of an outage is spent not knowing that it is over.
PROBE_SHARE = 0.1


@dataclass(slots=True)
class Room:
    """Of one zone and market. Without a ceiling, nothing has been refused since a machine last came."""

    ceiling: int | None = None  # how many could be held when one was refused or taken
    since_ns: int = 0  # of the ceiling
    retry_ns: int = 0  # when one more may be asked for

    def shut(self, held: int, now_ns: int) -> None:
        """One beyond `held` was refused or taken."""
        if self.ceiling is None:
            self.since_ns = now_ns
        self.ceiling = held if self.ceiling is None else min(held, self.ceiling)
        wait_ns = round((now_ns - self.since_ns) * PROBE_SHARE)
        self.retry_ns = now_ns + max(PROBE_MIN_NS, min(PROBE_MAX_NS, wait_ns))

    def came(self, held: int) -> None:
        """A machine came; `held` with it."""
        if self.ceiling is not None and held > self.ceiling:
            self.ceiling = None

    def admits(self, placed: int, now_ns: int) -> bool:
        """Whether one more may be asked for, with `placed` there or asked for. Beyond a ceiling: one at a time."""
        return self.ceiling is None or placed < self.ceiling or (placed == self.ceiling and now_ns >= self.retry_ns)

    def trusted(self, placed: int) -> bool:
        """Whether the last of `placed` orders is likely to be met."""
        return self.ceiling is None or placed <= self.ceiling

    def snapshot(self, now_ns: int) -> list[Any]:
        """Times as seconds from now: steady time begins anew after a restart."""
        return [self.ceiling, (now_ns - self.since_ns) / S, (self.retry_ns - now_ns) / S]

    def restore(self, state: list[Any], now_ns: int) -> None:
        ceiling, since_s, retry_s = state
        self.ceiling, self.since_ns, self.retry_ns = ceiling, now_ns - round(since_s * S), now_ns + round(retry_s * S)
