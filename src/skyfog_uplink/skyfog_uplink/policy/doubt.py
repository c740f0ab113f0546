"""How unlikely a frame may be in time and still begin, so that in the long run no more than a set share misses.

The odds are computed from what is known of the link, and may be too bold or too careful. So the doubt that is allowed
follows what became of the frames: adaptive conformal inference (Gibbs and Candes, NeurIPS 2021), in the logarithm, as
the doubt is a small share:

    log doubt += GAIN * (share - missed)        missed: 1 or 0, for each frame that had begun

Over any long run the misses come to the share, whatever the odds are worth, as long as the bounds are not reached: the
sum of all steps is what the logarithm has moved.

That needs frames that begin. Where misses have taken so much of the doubt that none begins any more, nothing would ever
bring it back. So where frames come and all are withheld for PATIENCE_NS, the doubt grows towards what it was at first,
until one begins and tells what is true.
"""

from __future__ import annotations

import math

from skyfog_core.units import S

GAIN = 0.3  # a miss takes a quarter of the doubt
LEAST, MOST = 0.005, 0.3
PATIENCE_NS = 1 * S
GROWTH_NS = 1 * S  # after it the doubt grows by a factor of e in so long


class Doubt:
    """Of one shaper. `first`: allowed before anything is known; `share`: of begun frames that may miss."""

    def __init__(self, first: float, share: float) -> None:
        self._share = share
        self._first = _bounded(first)
        self._allowed = self._first
        self._withheld_ns: tuple[int, int] | None = None  # since when all have been, and the last one

    def allowed(self, now_ns: int) -> float:
        """Of a frame that has not begun."""
        if self._withheld_ns is None or self._allowed >= self._first:
            return self._allowed
        since_ns, last_ns = self._withheld_ns
        growth_ns = last_ns - since_ns - PATIENCE_NS
        if growth_ns <= 0 or not 0 <= now_ns - last_ns <= PATIENCE_NS:
            return self._allowed
        return min(self._first, self._allowed * math.exp(growth_ns / GROWTH_NS))

    def on_withheld(self, now_ns: int) -> None:
        """A frame was not begun, since it was too unlikely."""
        since_ns, last_ns = self._withheld_ns or (now_ns, now_ns)
        if not 0 <= now_ns - last_ns <= PATIENCE_NS:
            since_ns = now_ns  # what there was no frame for says nothing
        self._withheld_ns = (since_ns, now_ns)

    def on_begun(self, now_ns: int) -> None:
        """A frame has begun."""
        self._allowed = self.allowed(now_ns)
        self._withheld_ns = None

    def on_end(self, missed: bool) -> None:
        """A frame that had begun has ended."""
        self._allowed = _bounded(self._allowed * math.exp(GAIN * (self._share - missed)))


def _bounded(allowed: float) -> float:
    return min(MOST, max(LEAST, allowed))
