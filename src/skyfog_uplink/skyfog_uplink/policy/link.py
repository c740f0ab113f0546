"""What is known of the link. The estimator says it, the allocator plans with it, the shaper sends by it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)  # of LinkState.rates_bps
RTT_LEVELS = (0.5, 0.75, 0.9, 0.99)  # of LinkState.rtts_ms


@dataclass(frozen=True, slots=True)
class LinkState:
    """The uplink as of `now_ns`.

    `rates_bps` [LEVELS] ascending: with probability LEVELS[k] the link delivers less than rates_bps[k] over the next
    few hundred milliseconds. `rtts_ms` [RTT_LEVELS] ascending: of a small message that meets no queue of ours.
    """

    now_ns: int
    up: bool  # False: an outage; nothing else counts then
    rates_bps: tuple[float, ...]
    rtts_ms: tuple[float, ...]
    rtt_ms: float  # smoothed
    rtt_min_ms: float
    queue_ms: float = 0.0  # what our bytes wait in the network now
    queue_growth: float = 0.0  # ms a second; above zero: we send more than the link takes
    loss: float = 0.0  # share of messages never acknowledged
    delivered_bps: float = 0.0  # acknowledged lately, whether or not the link could do more
    in_flight_bytes: int = 0

    def valid(self) -> bool:
        """Whether its numbers can be planned with: finite, ordered, not negative."""
        numbers = (*self.rates_bps, *self.rtts_ms, self.rtt_ms, self.rtt_min_ms, self.queue_ms, self.loss)
        return (
            len(self.rates_bps) == len(LEVELS)
            and len(self.rtts_ms) == len(RTT_LEVELS)
            and math.isfinite(sum(numbers))
            and min(numbers) >= 0
            and list(self.rates_bps) == sorted(self.rates_bps)
            and list(self.rtts_ms) == sorted(self.rtts_ms)
        )


def down(now_ns: int) -> LinkState:
    """An outage, or a link that nothing is known of yet."""
    return LinkState(now_ns, False, (0.0,) * len(LEVELS), (0.0,) * len(RTT_LEVELS), 0.0, 0.0)


class Estimation(Protocol):
    """An estimator as the shaper sees it: told of every message that goes out and of every acknowledgement."""

    def on_sent(self, seq: int, size: int, now_ns: int) -> None: ...
    def on_ack(self, seq: int, received_us: int, now_ns: int) -> None: ...
    def on_connected(self, now_ns: int) -> None: ...
    def on_disconnected(self, now_ns: int) -> None: ...
    def state(self, now_ns: int) -> LinkState: ...
    def ping_due(self, now_ns: int) -> bool: ...
    def on_timer(self, now_ns: int) -> bool:
        """Whether the state has stepped, e.g. an outage was seen."""
        ...

    def next_timer_ns(self) -> int | None: ...
    def check(self) -> None: ...
