"""Where the car's answer and the cloud's meet: one service, one stream of answers, each with its source.

The model on the car runs for every capture, so that there is an answer whatever the link does; the cloud's replaces it
if it comes in time and is worth more. Two ways to publish:

    each   every answer that is better than what was published, as it comes; `final` where no better one can follow
    best   one for each capture: as soon as no better one can follow, at its deadline at the latest

A capture without any answer by its deadline is Missed, and said so. The car's answer still goes out when it comes
(`late`), unless something newer was published since: late is better than nothing for who looks at one stream. A late
answer of the cloud is discarded; the car's is there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from skyfog_core.units import S

LATE_NS = 2 * S  # after its deadline, the car's answer to a capture is still waited for
JUMP_NS = 1 * S  # a clock that goes back by more has jumped
MAX_OPEN = 1_024

Source = Literal["car", "cloud"]


@dataclass(frozen=True, slots=True)
class Publish:
    """Give `answer` to who listens."""

    capture: int
    source: Source
    answer: Any
    final: bool  # nothing better can follow
    replaces: bool  # something was published for this capture before
    late: bool = False


@dataclass(frozen=True, slots=True)
class Missed:
    """No answer by the deadline, not even the car's own."""

    capture: int
    why: str


MergeAction = Publish | Missed


@dataclass(slots=True)
class _Capture:
    deadline_ns: int
    offloads: int  # that have not ended
    car: bool = False  # its answer came
    best: tuple[float, Source, Any] | None = None  # worth, whose, what
    published: Source | None = None
    missed: bool = False

    def settled(self, floor: float) -> bool:
        """Whether no better answer can come than the best so far."""
        return self.best is not None and not self.offloads and (self.car or self.best[0] >= floor)


class Merger:
    """Of one service. Pure; every event returns the actions to perform, in order. `floor` is the car's accuracy."""

    def __init__(self, publish: Literal["each", "best"], floor: float) -> None:
        self._each = publish == "each"
        self._floor = floor
        self._open: dict[int, _Capture] = {}
        self._newest = -1  # capture that something was published for
        self._now_ns = 0
        self.counts: Counter[str] = Counter()

    def on_capture(self, capture: int, deadline_ns: int, offloads: int, now_ns: int) -> list[MergeAction]:
        """A new one, whose number grows. Each of its `offloads` ends in on_cloud or on_cloud_gone."""
        out = self._begin(now_ns)
        if capture in self._open:
            raise ValueError(f"capture {capture} is open already")
        self.counts["captures"] += 1
        self._open[capture] = _Capture(deadline_ns, offloads)
        while len(self._open) > MAX_OPEN:
            self._close(next(iter(self._open)), "too many captures are open", out)
        return out

    def on_car(self, capture: int, answer: Any, now_ns: int) -> list[MergeAction]:
        """The model on the car has answered."""
        out = self._begin(now_ns)
        found = self._open.get(capture)
        if found is None or found.car:
            self.counts["unclaimed"] += 1
            return out
        found.car = True
        if now_ns <= found.deadline_ns:
            self._take(capture, found, (self._floor, "car", answer), out)
        elif found.published is None and capture > self._newest:
            self.counts["late_car"] += 1
            self._publish(capture, found, (self._floor, "car", answer), out, late=True)
        else:
            self.counts["stale_car"] += 1
        self._close_if_over(capture, found, now_ns, out)
        return out

    def on_cloud(self, capture: int, answer: Any, accuracy: float, now_ns: int) -> list[MergeAction]:
        """One of its offloads was answered."""
        out = self._begin(now_ns)
        found = self._ended(capture)
        if found is None:
            return out
        if now_ns <= found.deadline_ns:
            self._take(capture, found, (accuracy, "cloud", answer), out)
        else:
            self.counts["late_cloud"] += 1
        self._close_if_over(capture, found, now_ns, out)
        return out

    def on_cloud_gone(self, capture: int, now_ns: int) -> list[MergeAction]:
        """One of its offloads has ended without an answer that counts."""
        out = self._begin(now_ns)
        found = self._ended(capture)
        if found is not None:
            self._tell_best(capture, found, out)
            self._close_if_over(capture, found, now_ns, out)
        return out

    def on_timer(self, now_ns: int) -> list[MergeAction]:
        """Due at next_timer_ns(); harmless at any other time."""
        return self._begin(now_ns)

    def next_timer_ns(self) -> int | None:
        return min((_look_ns(capture) + 1 for capture in self._open.values()), default=None)

    def check(self) -> None:
        """Raise if a capture is lost or counted twice."""
        over = sum(self.counts[f"over_{how}"] for how in ("car", "cloud", "nothing"))
        assert self.counts["captures"] == len(self._open) + over
        assert len(self._open) <= MAX_OPEN
        for capture in self._open.values():
            assert capture.offloads >= 0
            assert not (self._each and capture.best and capture.published is None)

    def _begin(self, now_ns: int) -> list[MergeAction]:
        out: list[MergeAction] = []
        if now_ns < self._now_ns - JUMP_NS:
            for capture in list(self._open):  # no deadline means anything any more
                self._close(capture, "the clock jumped", out)
        self._now_ns = now_ns
        for capture, found in [each for each in self._open.items() if _look_ns(each[1]) < now_ns]:
            if not found.missed and found.published is None:
                self._at_deadline(capture, found, out)
            self._close_if_over(capture, found, now_ns, out)
        return out

    def _ended(self, capture: int) -> _Capture | None:
        found = self._open.get(capture)
        if found is None or not found.offloads:
            self.counts["unclaimed"] += 1
            return None
        found.offloads -= 1
        return found

    def _take(self, capture: int, found: _Capture, given: tuple[float, Source, Any], out: list[MergeAction]) -> None:
        """An answer in time: the better one stays; of equals the cloud's."""
        worth, source, _ = given
        if found.best is not None and (worth, source) <= found.best[:2]:
            self.counts[f"outdone_{source}"] += 1
        elif self._each:
            self._publish(capture, found, given, out)
        else:
            found.best = given
        self._tell_best(capture, found, out)

    def _tell_best(self, capture: int, found: _Capture, out: list[MergeAction]) -> None:
        """Where one answer a capture is wanted: it goes out once no better one can come."""
        if not self._each and found.best and found.published is None and found.settled(self._floor):
            self._publish(capture, found, found.best, out)

    def _publish(
        self,
        capture: int,
        found: _Capture,
        given: tuple[float, Source, Any],
        out: list[MergeAction],
        late: bool = False,
    ) -> None:
        _, source, answer = given
        found.best = given
        final = not self._each or late or found.settled(self._floor)
        out.append(Publish(capture, source, answer, final, found.published is not None, late))
        found.published = source
        self._newest = max(self._newest, capture)
        self.counts[f"published_{source}"] += 1

    def _at_deadline(self, capture: int, found: _Capture, out: list[MergeAction]) -> None:
        if found.best is not None:
            self._publish(capture, found, found.best, out)
        else:
            found.missed = True
            self.counts["missed"] += 1
            out.append(Missed(capture, "no answer by its deadline, not even the car's own"))

    def _close_if_over(self, capture: int, found: _Capture, now_ns: int, out: list[MergeAction]) -> None:
        """Nothing more can come of it, or it was waited for long enough."""
        if (found.car and not found.offloads) or now_ns > found.deadline_ns + LATE_NS:
            self._close(capture, "no answer at all", out)

    def _close(self, capture: int, why: str, out: list[MergeAction]) -> None:
        found = self._open[capture]
        if found.published is None and found.best is not None:
            self._publish(capture, found, found.best, out)
        elif found.published is None and not found.missed:
            self.counts["missed"] += 1
            out.append(Missed(capture, why))
        del self._open[capture]
        self.counts[f"over_{found.published or 'nothing'}"] += 1


def _look_ns(capture: _Capture) -> int:
    """The last moment before something is to be done about it."""
    over = capture.missed or capture.published is not None
    return capture.deadline_ns + (LATE_NS if over else 0)
