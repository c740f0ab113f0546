"""What a second below the target is worth, found from how much of such time the service allows and how much it has."""

from __future__ import annotations

import math

# The worth is in units of a fair one, at which what an hour may be below target costs as much as a spare for the hour.
AIM = 0.9  # of what is allowed: it errs to either side, and is to stay inside
FIRST = 1.2  # before anything was seen: on the careful side
LEAST, MOST = 0.25, 3.0  # so that one bad day ends neither in on-demand machines for ever, nor a good one in no care
ADAPT_S = 3 * 86_400.0  # three days with twice the time below target that is allowed raise it by e


class Allowance:
    """Of time below target: 1 - availability of all time.

    The worth of a second rises while more is spent than allowed and falls while less: integral control of its
    logarithm. Slow on purpose: for a given time below target, an even worth is the cheapest.
    """

    def __init__(self, availability: float) -> None:
        self.allow(availability)
        self._log = math.log(FIRST)

    def allow(self, availability: float) -> None:
        """From now on."""
        self.allowed = AIM * (1.0 - availability)

    @property
    def care(self) -> float:
        """The worth, in units of the fair one."""
        return math.exp(self._log)

    @care.setter
    def care(self, care: float) -> None:
        self._log = min(math.log(MOST), max(math.log(LEAST), math.log(care)))

    def pass_time(self, seconds: float, short: bool) -> None:
        """`short`: below target for all of it. A single stretch moves it by no more than a day's allowance would."""
        spent = (seconds if short else 0.0) / self.allowed - seconds
        self._log += max(-1.0, min(1.0, spent / ADAPT_S))
        self._log = min(math.log(MOST), max(math.log(LEAST), self._log))

    def second_usd(self, spare_usd_h: float) -> float:
        """USD that a second below target costs, where a spare machine costs so much an hour."""
        return self.care * spare_usd_h / (self.allowed * 3_600.0)
