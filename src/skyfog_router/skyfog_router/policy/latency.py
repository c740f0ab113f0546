"""How long a replica takes, learnt from answers that came and from waits that were cut short.

Who asks several replicas and cancels the losers never sees how long the losers would have taken. Leaving them out
would make a frozen replica look as fast as the answers it gave before. A loser's wait is therefore kept as
right-censored ("took longer than this"), and the distribution is the Kaplan-Meier estimate over both (Kaplan and Meier,
1958): with d_i answers in bucket i and n_i waits that reached it, S(t) = product over i <= t of (1 - d_i / n_i).

Buckets grow by GAMMA, as in DDSketch (Masson et al., VLDB 2019), so that a quantile is off by at most 4 %. Old
observations fade by time and by number, so that a replica that has changed is believed soon.
"""

from __future__ import annotations

import math

from skyfog_core.units import US, S

GAMMA = 1.08
LEAST_NS = 20 * US
BUCKETS = 260  # up to 2.5 hours
MEMORY = 300.0  # observations: the weight of an observation halves after 0.7 times as many newer ones
HALF_LIFE_NS = 300 * S  # a service that is called once in a minute is known all the same
_LOG_GAMMA = math.log(GAMMA)
_RESCALE = 1e9  # weights grow instead of all others shrinking; past this all are scaled back


class LatencySketch:
    """S(t): the share of requests that are still unanswered after t. Of one replica, or of a whole service."""

    def __init__(self, memory: float = MEMORY, half_life_ns: int = HALF_LIFE_NS) -> None:
        self._growth = 1.0 + 1.0 / memory
        self._half_life_ns = half_life_ns
        self._answered = [0.0] * BUCKETS
        self._censored = [0.0] * BUCKETS
        self._never = 0.0
        self._low, self._high = BUCKETS, -1  # the buckets in which there is anything
        self._weight = 1.0  # of an observation made now
        self._answers = 0.0  # sum of weights
        self._now_ns = 0
        self._survival = [1.0] * BUCKETS  # after each bucket's upper edge
        self._floor = 1.0
        self._news = 0
        self._stale = False  # S does not tell enough of the news
        self.seen = 0  # observations of any kind
        self.epoch = 0  # of S: as long as it is the same, so is S

    def answer(self, took_ns: int, now_ns: int) -> None:
        """An answer came after `took_ns`."""
        self._age(now_ns)
        self._answered[self._bucket(took_ns)] += self._weight
        self._answers += self._weight
        self._noted()

    def censor(self, waited_ns: int, now_ns: int) -> None:
        """No answer came within `waited_ns`, and then nobody waited any more."""
        self._age(now_ns)
        self._censored[self._bucket(waited_ns)] += self._weight
        self._noted()

    def never(self, now_ns: int) -> None:
        """No answer will ever come: the replica was lost, or failed."""
        self._age(now_ns)
        self._never += self._weight
        self._noted()

    @property
    def count(self) -> float:
        """Answers by their present weight: 0 where nothing is known, at most about MEMORY."""
        return self._answers / self._weight

    def survival(self, ns: float) -> float:
        """P(no answer within ns), 0 < P <= 1: never certain, however many answers there were."""
        if ns <= LEAST_NS:
            return 1.0
        if self._stale:
            self._refresh()
        place = math.log(ns / LEAST_NS) / _LOG_GAMMA
        low = int(place)
        curve = self._survival
        if low >= BUCKETS - 1:
            between = curve[-1]
        else:
            between = curve[low]
            between += (curve[low + 1] - between) * (place - low)
        return max(self._floor, between)

    def hazard(self, ns: float) -> float:
        """-ln S(t): over many requests to a sound replica it is exponential with mean 1 at the moment of the answer."""
        return -math.log(self.survival(ns))

    def quantile(self, q: float) -> int | None:
        """The time within which a share q is answered, ns; None where it is not known, or fewer ever are."""
        if self._stale:
            self._refresh()
        if not self._answers or not 0.0 < q < 1.0:
            return None
        left = 1.0 - q
        curve = self._survival
        if curve[-1] > left:
            return None
        low, high = 0, BUCKETS - 1
        while low < high:  # the first edge with S <= left; S never rises
            middle = (low + high) // 2
            low, high = (low, middle) if curve[middle] <= left else (middle + 1, high)
        before = curve[low - 1] if low else 1.0
        part = (before - left) / (before - curve[low]) if before > curve[low] else 1.0
        return round(LEAST_NS * GAMMA ** (low - 1 + part)) if low else LEAST_NS

    def _age(self, now_ns: int) -> None:
        passed_ns = max(0, now_ns - self._now_ns) if self._answers or self._news else 0
        self._now_ns = max(now_ns, self._now_ns)
        self._weight *= self._growth * 2.0 ** min(60.0, passed_ns / self._half_life_ns)
        if self._weight > _RESCALE:
            self._answered = [part / self._weight for part in self._answered]
            self._censored = [part / self._weight for part in self._censored]
            self._never /= self._weight
            self._answers /= self._weight
            self._weight = 1.0

    def _noted(self) -> None:
        """Compute S again once enough is new: a sixteenth of what is known, or anything where little is."""
        self._news += 1
        self.seen += 1
        if self._news >= self.count / 16:
            self._stale = True
            self.epoch += 1

    def _refresh(self) -> None:
        self._news, self._stale = 0, False
        reached = self._never
        parts = []  # of those that reached a bucket, how many went on; from the last bucket to the first
        for i in range(self._high, self._low - 1, -1):
            answered = self._answered[i]
            reached += answered + self._censored[i]
            parts.append(1.0 - answered / reached if answered else 1.0)
        curve, left = [1.0] * self._low, 1.0
        for part in reversed(parts):
            left *= part
            curve.append(left)
        self._survival = curve + [left] * (BUCKETS - len(curve))
        self._floor = 0.5 / (self.count + 1.0)

    def _bucket(self, ns: int) -> int:
        """The bucket i with LEAST * GAMMA ** (i - 1) < ns <= LEAST * GAMMA ** i, and something will be in it."""
        i = 0 if ns <= LEAST_NS else min(BUCKETS - 1, math.ceil(math.log(ns / LEAST_NS) / _LOG_GAMMA))
        self._low = min(self._low, i)
        self._high = max(self._high, i)
        return i
