"""How much the link delivers while it has something to deliver, told from the gateway's times of receipt.

A sender that mostly waits for the next frame says nothing of the link by its goodput. What tells is the link's service
time. In a FIFO a message begins to be served when the one before it is through or, where the link was idle, when it
arrives (Lindley's recursion):

    end[i] = received[i]        begin[i] = max(end[i-1], sent[i])        on one clock, less the way's least delay

Bytes over busy time is the capacity at any load: within a train of chunks this is packet dispersion, in a backlog it is
the delivery rate of those of BBR's samples that are not application-limited. Who decides which message counts is
estimate.py; here the sums are kept.

Rates stand on three time scales, each decayed bits over decayed busy time. Each leans on the next slower one with the
weight of some busy time, so that a short train counts for little, and so that in silence the fast ones fall back to the
slow one, which is what is then known.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from skyfog_core.units import MS, S

SCALES_NS = (100 * MS, 500 * MS, 5 * S)  # time constants, fastest first
LEANS_S = (0.015, 0.03, 0.03)  # busy time that the next slower scale weighs in each
FIRST_BPS = 2e6  # before anything is known
GRAIN_NS = 5 * MS  # of the record
LEAST_BPS = 1e3  # no rate is called less, so that ratios stay finite


class Capacity:
    """Sums of bits and busy time. Times are the link's, in ns."""

    def __init__(self, record_ns: int) -> None:
        self._record_ns = record_ns
        self._at_ns = 0
        self._bits = [0.0] * len(SCALES_NS)
        self._busy_s = [0.0] * len(SCALES_NS)
        self._ends_ns: list[int] = [0]  # of the record; with the sums up to there
        self._sums: list[tuple[float, float]] = [(0.0, 0.0)]

    @property
    def last_ns(self) -> int:
        """When the link was last seen at work."""
        return self._ends_ns[-1]

    @property
    def known(self) -> bool:
        """Whether anything was measured at all."""
        return self._sums[-1][0] > 0

    def add(self, begin_ns: int, end_ns: int, size: int) -> None:
        """The link was busy from begin to end, and so much went through."""
        bits, busy_s = 8.0 * size, (end_ns - begin_ns) / S
        ahead_ns = end_ns - self._at_ns
        if ahead_ns > 0:
            for at, scale_ns in enumerate(SCALES_NS):
                decay = math.exp(-ahead_ns / scale_ns)
                self._bits[at] *= decay
                self._busy_s[at] *= decay
            self._at_ns = end_ns
        for at, scale_ns in enumerate(SCALES_NS):
            self._bits[at] += bits
            self._busy_s[at] += min(busy_s, 3 * scale_ns / S)
        self._remember(begin_ns, end_ns, bits, busy_s)

    def _remember(self, begin_ns: int, end_ns: int, bits: float, busy_s: float) -> None:
        ends, sums = self._ends_ns, self._sums
        if begin_ns > ends[-1]:  # idle: the sums stand still
            ends.append(begin_ns)
            sums.append(sums[-1])
        total = (sums[-1][0] + bits, sums[-1][1] + busy_s)
        if len(ends) > 1 and end_ns - ends[-2] < GRAIN_NS and sums[-2] != sums[-1]:
            ends[-1], sums[-1] = max(end_ns, ends[-1]), total
        else:
            ends.append(max(end_ns, ends[-1]))
            sums.append(total)
        if len(ends) > 64 and ends[len(ends) // 2] < end_ns - self._record_ns:
            del ends[: len(ends) // 2], sums[: len(sums) // 2]

    def between(self, begin_ns: int, end_ns: int) -> tuple[float, float]:
        """Bits and busy seconds of a time within the record."""
        early, late = self._until(begin_ns), self._until(end_ns)
        return late[0] - early[0], late[1] - early[1]

    def move(self, by_ns: int) -> None:
        """The clock that times are taken by was set."""
        self._at_ns += by_ns
        self._ends_ns = [end_ns + by_ns for end_ns in self._ends_ns]

    def _until(self, at_ns: int) -> tuple[float, float]:
        ends, sums = self._ends_ns, self._sums
        after = bisect_right(ends, at_ns)
        if after == 0:
            return sums[0]
        if after == len(ends):
            return sums[-1]
        share = (at_ns - ends[after - 1]) / (ends[after] - ends[after - 1])
        (bits, busy_s), (more_bits, more_s) = sums[after - 1], sums[after]
        return bits + share * (more_bits - bits), busy_s + share * (more_s - busy_s)

    def rates(self, now_ns: int, open_bits: float, open_s: float) -> Sequence[float]:
        """Bits a second on each scale, fastest first.

        `open_bits`, `open_s`: the message that the link has worked on for so long is not through; that lowers a rate
        by which it would be, and says nothing where it would not.
        """
        ahead_ns = max(now_ns - self._at_ns, 0)
        rate, found = FIRST_BPS, []
        for at in reversed(range(len(SCALES_NS))):
            decay = math.exp(-ahead_ns / SCALES_NS[at])
            bits = self._bits[at] * decay + rate * LEANS_S[at]
            busy_s = self._busy_s[at] * decay + LEANS_S[at]
            rate = bits / busy_s
            if open_s * rate > open_bits:
                rate = (bits + open_bits) / (busy_s + open_s)
            rate = max(rate, LEAST_BPS)
            found.append(rate)
        return found[::-1]

    def weight_s(self, now_ns: int) -> float:
        """Busy time behind the fastest scale as of now."""
        return self._busy_s[0] * math.exp(-max(now_ns - self._at_ns, 0) / SCALES_NS[0])
