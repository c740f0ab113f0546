"""What the pool's policy wants done."""

from __future__ import annotations

from dataclasses import dataclass

from skyfog_pool.policy.market import Market


@dataclass(frozen=True, slots=True)
class Launch:
    """Get a machine, start `version` on it. Answered by on_provisioning, then on_started or on_launch_failed."""

    replica: int
    zone: str
    market: Market
    version: int
    because: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Let the replica drop its token and finish what it has. Answered by on_drained, or by the limit."""

    replica: int
    within_ns: int
    because: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """Give the machine back. Answered by on_terminated or on_cleanup_failed."""

    replica: int
    because: str


Action = Launch | Drain | Terminate
