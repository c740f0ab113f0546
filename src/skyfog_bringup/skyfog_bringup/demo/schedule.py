"""Which faults the demo injects, when, and into whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

RECENT_S = 3.0


class FaultKind(StrEnum):
    """What happens to a replica's process, by the signal's name."""

    KILL = "SIGKILL"  # gone at once, as a machine that loses power or is preempted
    FREEZE = "SIGSTOP"  # still there, its connections open, but silent: a gray failure

    @property
    def done(self) -> str:
        """What the replica then is."""
        return "killed" if self is FaultKind.KILL else "frozen"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault to come, in seconds after the start."""

    kind: FaultKind
    at_s: float


def faults(seconds: float, replicas: int) -> list[Fault]:
    """A kill after a third of the time, a freeze after two thirds; as many as leave one replica healthy."""
    plan = [Fault(FaultKind.KILL, seconds / 3), Fault(FaultKind.FREEZE, 2 * seconds / 3)]
    return plan[: max(0, replicas - 1)]


def victim(wins: Iterable[tuple[float, str]], now_s: float, healthy: Sequence[str]) -> str:
    """The healthy replica that answered most of late, so that its loss matters; of equals the first of `healthy`.

    `wins` holds when each request was answered, in seconds, and by whom.
    """
    recent = Counter(who for at_s, who in wins if who in healthy and now_s - RECENT_S <= at_s <= now_s)
    return max(healthy, key=lambda who: recent[who])
