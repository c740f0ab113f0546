"""How likely a frame's answer is in time, from what is known at the moment of sending.

With R bytes of the frame to go, F bytes unacknowledged before them, a link of rate r and round trip RTT, the last byte
has left the bottleneck after max(R/r, (F + R)/r - RTT): of the bytes in flight, those of the last round trip have
passed it already and only their acknowledgements are under way. Then come the round trip and the cloud's time, together
L. So the answer is in time where the link is at least as fast as

    r*(L) = max(R / (left - L), (F + R) / (left - L + RTT))

and the odds are the sum over L of P(L) P(rate >= r*(L)). It is TURBO's critical bandwidth S / (SLO - RTT - exec) with
distributions in the place of its constants, for the rest of a frame in the place of a whole one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from skyfog_uplink.policy.link import LEVELS, RTT_LEVELS, LinkState
from skyfog_uplink.policy.model import Distribution, Table

_SHARES = (0.25, 0.25, 0.25, 0.15, 0.07, 0.02, 0.01)  # of the points that L is reduced to, each at its upper end
_RTT_SHARES = tuple(high - low for low, high in zip((0.0, *RTT_LEVELS[:-1]), (*RTT_LEVELS[:-1], 1.0), strict=True))
_TOP = 1.5  # the fastest quantile times this is never exceeded
_GRAIN_MS = 1.0  # round trips are rounded up to it, so that few of them are computed with
_REMEMBERED = 512


class Odds:
    """Of every option of a table."""

    def __init__(self, table: Table) -> None:
        self._exec = {
            (service.name, at): _reduced(option.exec_ms)
            for service in table.services
            for at, option in enumerate(service.options)
        }
        self._rests: dict[tuple[str, int, tuple[int, ...]], tuple[float, ...]] = {}

    def in_time(
        self, service: str, option: int, left_ms: float, to_go: int, ahead: int, wait_ms: float, link: LinkState
    ) -> float:
        """That the answer comes within `left_ms`.

        `to_go` bytes are to be sent behind `ahead` bytes, and the token bucket lets the last of them pass in `wait_ms`.
        """
        rests = self._rest(service, option, link.rtts_ms)
        rates, rtt_ms = link.rates_bps, link.rtt_ms
        bits, all_bits = to_go * 8e3, (ahead + to_go) * 8e3  # over ms: bits a second
        odds = 0.0
        for share, rest_ms in zip(_SHARES, rests, strict=True):
            spare_ms = left_ms - rest_ms
            if spare_ms <= wait_ms:
                break
            odds += share * (1.0 - slower(rates, max(bits / spare_ms, all_bits / (spare_ms + rtt_ms))))
        return odds

    def least_ms(self, service: str, option: int, link: LinkState) -> float:
        """Round trip and the cloud's time where they are short."""
        return self._rest(service, option, link.rtts_ms)[0]

    def _rest(self, service: str, option: int, rtts_ms: Sequence[float]) -> tuple[float, ...]:
        grains = tuple(-int(-rtt_ms // _GRAIN_MS) for rtt_ms in rtts_ms)
        key = (service, option, grains)
        found = self._rests.get(key)
        if found is None:
            if len(self._rests) >= _REMEMBERED:
                self._rests.clear()
            found = self._rests[key] = _sum(grains, self._exec[service, option])
        return found


def slower(rates_bps: Sequence[float], than_bps: float) -> float:
    """The probability that the link delivers less than `than_bps`: linear between the quantiles."""
    at = bisect_left(rates_bps, than_bps)
    if at == len(rates_bps):
        top = rates_bps[-1]
        beyond = (than_bps - top) / (top * (_TOP - 1.0)) if top > 0 else 1.0
        return LEVELS[-1] + (1.0 - LEVELS[-1]) * min(beyond, 1.0)
    low, below = (rates_bps[at - 1], LEVELS[at - 1]) if at else (0.0, 0.0)
    high = rates_bps[at]
    return below + (LEVELS[at] - below) * (than_bps - low) / (high - low) if high > low else below


def _reduced(of: Distribution) -> tuple[float, ...]:
    return _points(list(zip(of.values, of.weights, strict=True)))


def _sum(rtts_ms: tuple[int, ...], exec_ms: tuple[float, ...]) -> tuple[float, ...]:
    sums = [
        (rtt_ms * _GRAIN_MS + took_ms, one * other)
        for rtt_ms, one in zip(rtts_ms, _RTT_SHARES, strict=True)
        for took_ms, other in zip(exec_ms, _SHARES, strict=True)
    ]
    return _points(sorted(sums))


def _points(values: list[tuple[float, float]]) -> tuple[float, ...]:
    """Sorted (value, weight) as one value for each of _SHARES, the greatest within it."""
    points: list[float] = []
    until = seen = 0.0
    rest = iter(values)
    value = 0.0
    for share in _SHARES:
        until += share
        while seen < until - 1e-9:
            found = next(rest, None)
            if found is None:
                break
            value, weight = found
            seen += weight
        points.append(value)
    return tuple(points)
