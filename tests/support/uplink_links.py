"""Tables and link states in one line each, for tests of what is planned with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skyfog_uplink.policy.link import LEVELS, LinkState
from skyfog_uplink.policy.model import Distribution, Floor, Option, Scene, Service, Table, constant

FRAME_MS = 100.0  # an option of `mbps` in `table` needs so many bits that they take this long


def link(
    mbps: float | Sequence[float],
    now_ns: int = 0,
    *,
    rtt_ms: float = 50.0,
    rtt_spread: float = 0.0,
    queue_ms: float = 0.0,
    up: bool = True,
) -> LinkState:
    """One number: the link is known exactly. As many as LEVELS: its quantiles."""
    rates = (mbps,) * len(LEVELS) if isinstance(mbps, int | float) else tuple(mbps)
    rtts = tuple(rtt_ms + rtt_spread * k for k in range(4))
    return LinkState(now_ns, up, tuple(rate * 1e6 for rate in rates), rtts, rtt_ms, rtt_ms, queue_ms=queue_ms)


def spread(median: float, low: float, high: float) -> tuple[float, ...]:
    """Quantiles from `low` (Mbit/s) at the first level over the median to `high` at the last."""
    middle = LEVELS.index(0.5)
    below = [low + (median - low) * k / middle for k in range(middle)]
    above = [median + (high - median) * k / (len(LEVELS) - 1 - middle) for k in range(len(LEVELS) - middle)]
    return tuple(below + above)


def option(name: str, accuracy: float, mbps: float, exec_ms: Distribution | float = 0.0) -> Option:
    """Needs `mbps` at an RTT of 50 ms within an SLO of 150 ms, where the cloud takes no time."""
    size = constant(mbps * 1e6 * FRAME_MS / 1e3 / 8)
    times = constant(exec_ms) if isinstance(exec_ms, int | float) else exec_ms
    return Option(name, name, accuracy, size, constant(0.0), times)


def service(
    name: str, *options: Option, floor: float = 0.4, weight: float = 1.0, target: float = 0.9, rate_hz: float = 5.0
) -> Service:
    """Within 150 ms."""
    return Service(
        name, f"/{name}", "x", rate_hz, 150.0, target, weight, Floor("small", floor, constant(50.0)), options
    )


def table(*services: Service, scenes: Mapping[str, Mapping[str, float]] | None = None) -> Table:
    """Scenes by name, told and not by speed."""
    found = tuple(Scene(name, None, None, weights) for name, weights in (scenes or {}).items())
    return Table("test", "", services, found)
