"""One service's way through the shaper: at most one frame in sending, and one that waits. Its probes have another."""

from __future__ import annotations

from dataclasses import dataclass

from skyfog_uplink.policy.bucket import TokenBucket
from skyfog_uplink.policy.frames import Frame
from skyfog_uplink.policy.model import FLOOR, Service


@dataclass(slots=True, eq=False)
class Sending:
    """A frame that the shaper has taken and that has not ended."""

    frame: Frame
    sent: int = 0  # bytes
    first_ns: int = 0  # its first byte went out; meaningless before
    acked: int = 0  # bytes
    acked_ns: int | None = None  # when the last of them were
    outage: bool = False  # the link was gone while it was on its way

    @property
    def to_go(self) -> int:
        return self.frame.size - self.sent


@dataclass(slots=True, eq=False)
class Lane:
    """Of one service, planned frames or probes."""

    service: Service
    probe: bool
    bucket: TokenBucket
    option: int = FLOOR  # granted; FLOOR: nothing is taken
    running: Sending | None = None  # some of its bytes have been sent, not all
    waiting: Sending | None = None  # none has

    @property
    def head(self) -> Sending:
        """What is sent next. There must be something."""
        sending = self.running or self.waiting
        assert sending is not None
        return sending

    def drop(self, sending: Sending) -> None:
        """It has ended, wherever it stands."""
        if self.running is sending:
            self.running = None
        elif self.waiting is sending:
            self.waiting = None
