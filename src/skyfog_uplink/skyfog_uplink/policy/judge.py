"""Whether a frame may begin, and whether one that has begun goes on. The reasons stand in shape.py, on admission."""

from __future__ import annotations

import math
from collections.abc import Sequence

from skyfog_core.config.uplink import ShaperConfig
from skyfog_core.units import MS
from skyfog_uplink.policy.doubt import Doubt
from skyfog_uplink.policy.frames import MISSES, Outcome
from skyfog_uplink.policy.lane import Lane, Sending
from skyfog_uplink.policy.link import LinkState
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.odds import Odds

UNLIKELY = 0.1  # odds below which a frame that has begun is cut
HOPELESS = 0.05  # odds below which not even a probe is sent, unless it explores


class Judge:
    """Of one shaper."""

    def __init__(self, table: Table, config: ShaperConfig) -> None:
        self._odds = Odds(table)
        self._longest_ns = {
            service.name: [math.ceil(option.exec_ms.values[-1] * MS) for option in service.options]
            for service in table.services
        }
        self.doubt = Doubt(1.0 - config.certainty, config.misses)

    def on_begun(self, sending: Sending, now_ns: int) -> None:
        """Its first byte goes out."""
        if not sending.frame.probe:
            self.doubt.on_begun(now_ns)

    def on_end(self, sending: Sending, outcome: Outcome) -> None:
        """What became of it. A probe is not meant to be sure.

        A refusal says nothing of the link, and neither does a miss that the cloud alone has caused: it had the frame
        so early that its longest time would have done. No certainty keeps such frames from missing. If they counted,
        a cloud that was away for seconds would leave the car on its floor for minutes.
        """
        missed = outcome in MISSES
        if not sending.sent or sending.frame.probe or outcome is Outcome.REFUSED:
            return
        if not (missed and self._by_the_cloud(sending)):
            self.doubt.on_end(missed)

    def _by_the_cloud(self, sending: Sending) -> bool:
        frame = sending.frame
        if sending.acked < frame.size or sending.acked_ns is None:
            return False
        return sending.acked_ns + self._longest_ns[frame.service][frame.option] <= frame.deadline_ns

    def planned(
        self, lane: Lane, sending: Sending, lanes: Sequence[Lane], link: LinkState, in_flight: int, now_ns: int
    ) -> str:
        """Why this frame of a plan should not be sent, or not go on; empty: it should."""
        certainty = 1.0 - self.doubt.allowed(now_ns)
        odds = self._in_time(lane, sending, link, in_flight, now_ns)
        if odds < (UNLIKELY if sending.sent else certainty):
            if not sending.sent:
                self.doubt.on_withheld(now_ns)
            return f"in time with {odds:.2f} only"
        if sending.sent:
            return ""
        for other in lanes:
            running = other.running
            if running is None or running.frame.deadline_ns <= sending.frame.deadline_ns:
                continue
            before = self._in_time(other, running, link, in_flight, now_ns)
            after = self._in_time(other, running, link, in_flight + sending.to_go, now_ns)
            if after < min(before, certainty):
                return f"{other.service.name} has begun and needs the link"
        return ""

    def probe(self, lane: Lane, probe: Sending, link: LinkState, in_flight: int, now_ns: int) -> str:
        """Why this probe should not be sent, or not go on; empty: it should."""
        odds = self._in_time(lane, probe, link, in_flight, now_ns)
        return "" if odds >= HOPELESS else f"in time with {odds:.2f} only"

    def _in_time(self, lane: Lane, sending: Sending, link: LinkState, ahead: int, now_ns: int) -> float:
        wait_ns = lane.bucket.wait_ns(sending.to_go, now_ns)
        if wait_ns is None:
            return 0.0
        frame = sending.frame
        left_ms = (frame.deadline_ns - now_ns) / MS
        return self._odds.in_time(frame.service, frame.option, left_ms, sending.to_go, ahead, wait_ns / MS, link)
