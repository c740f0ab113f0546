"""How unlikely a frame may be in time and still begin, so that in the long run no more than a set share misses.

The odds are computed from what is known of the link, and may be too bold or too careful. So the doubt that is allowed
follows what became of the frames: adaptive conformal inference (Gibbs and Candes, NeurIPS 2021), in the logarithm, as
the doubt is a small share:

    log doubt += GAIN * (share - missed)        missed: 1 or 0, for each frame that had begun

Over any long run the misses come to the share, whatever the odds are worth, as long as the bounds are not reached: the
sum of all steps is what the logarithm has moved.
"""

from __future__ import annotations

import math

GAIN = 0.3  # a miss takes a quarter of the doubt
LEAST, MOST = 0.005, 0.3


class Doubt:
    """Of one shaper. `first`: allowed before anything is known; `share`: of begun frames that may miss."""

    def __init__(self, first: float, share: float) -> None:
        self._share = share
        self.allowed = min(MOST, max(LEAST, first))

    def on_end(self, missed: bool) -> None:
        """A frame that had begun has ended."""
        allowed = self.allowed * math.exp(GAIN * (self._share - missed))
        self.allowed = min(MOST, max(LEAST, allowed))
