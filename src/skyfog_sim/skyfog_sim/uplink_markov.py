"""Uplinks that were never recorded: a seeded Markov-modulated generator of courses, and presets of it.

    level     one of K rates, each held the same share of the time; a stay is exponential; the next level is a neighbour
              (share `near`) or any one: what cell and distance make of a link
    fading    log-normal on top, with a memory of `fading_ms`: what happens within a level
    outage    nothing at all for a log-normal time, at exponential intervals
    grain     packets leave together every `grain_ms`, as a scheduler hands them out

`uplink_fit.fit` calibrates one to a recorded course: outages and grain are counted, levels take the quantiles of 250 ms
rates, and stay, near and fading are searched for; what is left over of the fit is in
skyfog_uplink/doc/how_it_is_measured.md, and `tests/sim/skyfog_sim/test_uplink_markov.py` holds it there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from skyfog_core.rng import stream
from skyfog_sim.uplink_link import LTE_RTT, PACKET_BYTES, STARLINK_RTT, Course, RttModel

STEP_MS = 10
MAX_OUTAGE_MS = 120_000.0
WINDOWS_MS = (50, 250, 1_000)
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class MarkovLink:
    """The parameters of a generator."""

    name: str
    levels_mbps: tuple[float, ...]  # [K] ascending
    stay_ms: float
    near: float
    fading: float  # standard deviation of the logarithm
    fading_ms: float
    outages_a_minute: float
    outage_p50_ms: float
    outage_sigma: float  # of the logarithm of its length
    grain_ms: int = 1
    rtt: RttModel = LTE_RTT

    def draw(self, seconds: float, seed: int) -> Course:
        """A course of that length, the same for the same seed."""
        steps = max(1, round(seconds * 1_000 / STEP_MS))
        random = np.random.default_rng(stream(seed, "uplink", self.name).getrandbits(64))
        rates = self._levels(steps, random) * self._fading(steps, random)
        self._put_outages(rates, random)
        return Course(self.name, _packets(np.repeat(rates, STEP_MS) * 125, self.grain_ms))

    def _levels(self, steps: int, random: np.random.Generator) -> np.ndarray:
        """[steps] Mbit/s."""
        count = len(self.levels_mbps)
        changes = int(steps * STEP_MS / self.stay_ms * 1.5) + 20
        stays = np.maximum(1, np.ceil(random.exponential(self.stay_ms / STEP_MS, changes))).astype(int)
        moves, anywhere = random.random(changes), random.integers(0, count, changes)
        path = np.empty(changes, dtype=int)
        at = int(anywhere[0])
        for i in range(changes):
            if moves[i] < self.near:  # reflected at the ends, so that each level keeps its share
                at = min(max(at + (1 if moves[i] < self.near / 2 else -1), 0), count - 1)
            else:
                at = int(anywhere[i])
            path[i] = at
        return np.resize(np.repeat(np.array(self.levels_mbps)[path], stays), steps)

    def _fading(self, steps: int, random: np.random.Generator) -> np.ndarray:
        """[steps] factors of mean one."""
        keep = math.exp(-STEP_MS / self.fading_ms)
        noise = random.standard_normal(steps)
        noise[1:] *= math.sqrt(1 - keep**2)
        logs = lfilter([1.0], [1.0, -keep], noise)
        return np.asarray(np.exp(self.fading * logs - self.fading**2 / 2))

    def _put_outages(self, rates: np.ndarray, random: np.random.Generator) -> None:
        if self.outages_a_minute <= 0:
            return
        at = 0.0
        while True:
            at += random.exponential(60_000 / self.outages_a_minute)
            length = min(MAX_OUTAGE_MS, self.outage_p50_ms * math.exp(self.outage_sigma * random.standard_normal()))
            first = int(at / STEP_MS)
            if first >= len(rates):
                return
            rates[first : int((at + length) / STEP_MS) + 1] = 0.0
            at += length


def _packets(bytes_a_ms: np.ndarray, grain_ms: int) -> np.ndarray:
    """[N] whole packets, handed out at the end of each grain."""
    carried = np.cumsum(bytes_a_ms)
    last = (np.arange(len(carried)) // grain_ms) * grain_ms
    whole = np.floor(carried[last] / PACKET_BYTES + 1e-9).astype(np.int64)
    return np.diff(whole, prepend=0) * PACKET_BYTES


# Fitted to the recorded courses by uplink_fit.fit (seed 0); Verizon's with all the outages that were counted.
ATT_LTE_DRIVING = MarkovLink(
    "like ATT-LTE-driving",
    (0.192, 0.528, 0.729, 0.944, 1.008, 1.01, 1.056, 1.128, 1.129, 1.158, 1.2, 1.21),
    stay_ms=4_077.0,
    near=0.393,
    fading=0.416,
    fading_ms=15.1,
    outages_a_minute=6.61,
    outage_p50_ms=340.5,
    outage_sigma=1.609,
    grain_ms=10,
)
ATT_LTE_DRIVING_2016 = MarkovLink(
    "like ATT-LTE-driving-2016",
    (0.325, 0.665, 1.615, 1.648, 1.668, 1.807, 1.837, 1.895, 1.921, 1.999, 3.457, 6.588),
    stay_ms=460.9,
    near=0.636,
    fading=0.652,
    fading_ms=55.1,
    outages_a_minute=8.43,
    outage_p50_ms=286.5,
    outage_sigma=1.446,
    grain_ms=3,
)
VERIZON_LTE = MarkovLink(
    "like Verizon-LTE-short",
    (0.741, 1.984, 2.487, 3.527, 3.874, 4.57, 6.079, 6.661, 8.427, 9.324, 9.409, 11.887),
    stay_ms=1_688.0,
    near=0.383,
    fading=0.333,
    fading_ms=22.8,
    outages_a_minute=1.71,
    outage_p50_ms=383.0,
    outage_sigma=0.672,
    grain_ms=2,
)
# Levels such that rates over a second have the published quantiles; all else is assumed, after Verizon's.
T_MOBILE_LTE = MarkovLink(  # published: mean 13.4 Mbit/s, p5 2.5
    "T-Mobile LTE",
    (2.301, 3.796, 5.024, 6.4, 8.0, 10.3, 11.9, 14.2, 17.5, 20.5, 26.0, 42.0),
    stay_ms=1_700.0,
    near=0.6,
    fading=0.33,
    fading_ms=25.0,
    outages_a_minute=1.0,
    outage_p50_ms=350.0,
    outage_sigma=0.9,
)
MMWAVE_5G = MarkovLink(  # published, driving: p50 5.6 to 8.8 Mbit/s, p95 59 to 126, a quarter at most 0.1
    "5G mmWave driving",
    (0.03, 0.05, 0.075, 0.12, 2.5, 5.9, 9.0, 12.5, 17.5, 27.0, 48.0, 106.0),
    stay_ms=2_000.0,
    near=0.8,
    fading=0.4,
    fading_ms=25.0,
    outages_a_minute=1.0,
    outage_p50_ms=400.0,
    outage_sigma=1.0,
)
STARLINK = MarkovLink(  # published, moving: p5, p50, p95 of 4.4, 15.4, 32.3 Mbit/s; it hands over each 15 s
    "Starlink moving",
    (4.025, 6.022, 7.9, 10.7, 13.3, 14.8, 16.4, 17.8, 19.5, 21.5, 25.5, 34.0),
    stay_ms=5_000.0,
    near=0.6,
    fading=0.25,
    fading_ms=60.0,
    outages_a_minute=1.5,
    outage_p50_ms=400.0,
    outage_sigma=0.8,
    rtt=STARLINK_RTT,
)
LIKE_RECORDED = {
    "ATT-LTE-driving": ATT_LTE_DRIVING,
    "ATT-LTE-driving-2016": ATT_LTE_DRIVING_2016,
    "Verizon-LTE-short": VERIZON_LTE,
}
PUBLISHED = (T_MOBILE_LTE, MMWAVE_5G, STARLINK)


@dataclass(frozen=True, slots=True)
class CourseStats:
    """What courses are compared by."""

    mean_mbps: float
    quantiles: Mapping[int, tuple[float, ...]]  # Mbit/s at SHARES, by window in ms
    lag_one: Mapping[int, float]  # correlation of one window with the next
    outages_a_minute: float  # of at least 200 ms
    outage_share: float  # of the time


def stats(course: Course) -> CourseStats:
    """Measure a course."""
    quantiles, lags = {}, {}
    for window in WINDOWS_MS:
        rates = course.rates_bps(window) / 1e6
        quantiles[window] = tuple(float(value) for value in np.quantile(rates, SHARES))
        lags[window] = float(np.corrcoef(rates[:-1], rates[1:])[0, 1]) if rates.std() > 0 else 1.0
    gaps = gaps_ms(course)
    gaps = gaps[gaps >= 200]
    length_ms = course.length_ns / 1e6
    minutes = length_ms / 60_000
    return CourseStats(course.mean_bps / 1e6, quantiles, lags, len(gaps) / minutes, float(gaps.sum() / length_ms))


def gaps_ms(course: Course) -> np.ndarray:
    """[n] between one opportunity and the next."""
    return np.diff(np.flatnonzero(np.diff(course.array)))
