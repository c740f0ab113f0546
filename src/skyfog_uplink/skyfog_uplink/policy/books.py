"""What became of the frames that the shaper took: by service, by outcome, probes apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from skyfog_uplink.policy.frames import MISSES, Outcome


@dataclass(slots=True)
class Tally:
    """Of one service's frames, or of its probes."""

    taken: int = 0
    frames: Counter[Outcome] = field(default_factory=Counter)
    bytes: Counter[Outcome] = field(default_factory=Counter)  # that were put on the link for them

    @property
    def ended(self) -> int:
        return sum(self.frames.values())

    @property
    def misses(self) -> int:
        """Frames of which a byte was sent and that the cloud did not answer in time. Of probes it means nothing."""
        return sum(self.frames[outcome] for outcome in MISSES)

    @property
    def offloaded(self) -> int:
        """Frames of which a byte was sent."""
        return self.frames[Outcome.ON_TIME] + self.misses


@dataclass(slots=True)
class Books:
    """Of one shaper."""

    planned: dict[str, Tally]
    probes: dict[str, Tally]
    sent_bytes: int = 0  # of frames, chunk by chunk
    pings: int = 0
    withdrawn: int = 0
    unknown_acks: int = 0  # of what was never sent, or was acknowledged or given up before
    lost_chunks: int = 0  # never acknowledged, though later ones were
    unclaimed: int = 0  # answers that nobody waits for: late by more than the grace, twice, of another time
    senseless: int = 0  # states of the link that were no numbers
    strange: int = 0  # answers to what was not sent in whole

    def of(self, service: str, probe: bool) -> Tally:
        """Raises KeyError."""
        return (self.probes if probe else self.planned)[service]

    def tallies(self) -> list[Tally]:
        return [*self.planned.values(), *self.probes.values()]


def empty(services: list[str]) -> Books:
    """Nothing yet."""
    return Books({name: Tally() for name in services}, {name: Tally() for name in services})
