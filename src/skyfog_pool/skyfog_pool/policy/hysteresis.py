"""A wish is followed once it has held for a while, in durations, not in samples.

It has held when it stood for HELD of the delay, weighted by time. A minimum over the window would let one short dip
undo five minutes of need (as SkyServe's counter does, which starts anew at each sample that is off); a bare majority
would follow a load that is high only every other minute. The windows begin anew when the target changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HELD = 0.8  # share of the delay in which a wish must have stood
_LOOKS = 8  # at most so many looks a delay while a wish waits to have held


class Hysteresis:
    """Of one target."""

    def __init__(self, target: int, up_ns: int, down_ns: int) -> None:
        self.target = target
        self.up_ns, self.down_ns = up_ns, down_ns
        self._runs: list[tuple[int, int]] = []  # (since_ns, wish), oldest first
        self._again_ns: int | None = None

    def follow(self, wish: int, now_ns: int) -> int:
        """The target, now that `wish` is wished."""
        if not self._runs or self._runs[-1][1] != wish:
            if self._runs and self._runs[-1][0] == now_ns:
                self._runs.pop()
            self._runs.append((now_ns, wish))
        up = self._held(self.up_ns, now_ns, at_least=True)
        down = self._held(self.down_ns, now_ns, at_least=False)
        if self.target == 0 and wish > 0:
            self._adopt(wish, now_ns)  # somebody waits, and nobody is there to serve
        elif up is not None and up > self.target:
            self._adopt(up, now_ns)
        elif down is not None and down < self.target:
            self._adopt(down, now_ns)
        self._forget(now_ns)
        self._again_ns = self._next(now_ns)
        return self.target

    def clamp(self, least: int, most: int) -> None:
        """The bounds have changed: they bind at once, and what was wished under others."""
        self.target = min(most, max(least, self.target))
        self._runs = [(since_ns, min(most, max(least, wish))) for since_ns, wish in self._runs]
        self._again_ns = None

    def next_timer_ns(self) -> int | None:
        return self._again_ns

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """Plain data for JSON, times as ages."""
        return {"target": self.target, "wishes": [[now_ns - since_ns, wish] for since_ns, wish in self._runs]}

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        self.target = state["target"]
        self._runs = [(now_ns - ago_ns, wish) for ago_ns, wish in state["wishes"]]

    def _adopt(self, target: int, now_ns: int) -> None:
        self.target = target
        self._runs = [(now_ns, self._runs[-1][1])]

    def _held(self, delay_ns: int, now_ns: int, at_least: bool) -> int | None:
        """The wish that was reached, or not exceeded, for HELD of the delay; None before the delay is over."""
        if delay_ns == 0:
            return self._runs[-1][1]
        begin_ns = now_ns - delay_ns
        if self._runs[0][0] > begin_ns:
            return None
        stood: dict[int, int] = {}
        for index, (since_ns, wish) in enumerate(self._runs):
            until_ns = self._runs[index + 1][0] if index + 1 < len(self._runs) else now_ns
            took_ns = until_ns - max(since_ns, begin_ns)
            if took_ns > 0:
                stood[wish] = stood.get(wish, 0) + took_ns
        total_ns = 0
        for wish in sorted(stood, reverse=at_least):
            total_ns += stood[wish]
            if total_ns >= HELD * delay_ns:
                return wish
        return None

    def _forget(self, now_ns: int) -> None:
        begin_ns = now_ns - max(self.up_ns, self.down_ns)
        while len(self._runs) > 1 and self._runs[1][0] <= begin_ns:
            self._runs.pop(0)

    def _next(self, now_ns: int) -> int | None:
        wish = self._runs[-1][1]
        if wish == self.target:
            return None
        delay_ns = self.up_ns if wish > self.target else self.down_ns
        over_ns = self._runs[0][0] + delay_ns
        return over_ns if over_ns > now_ns else now_ns + max(1, delay_ns // _LOOKS)
