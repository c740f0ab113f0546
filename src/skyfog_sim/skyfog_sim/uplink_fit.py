"""Calibrates a generator of uplinks to a recorded course, or to quantiles that were published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import differential_evolution

from skyfog_sim.uplink_link import Course
from skyfog_sim.uplink_markov import WINDOWS_MS, MarkovLink, gaps_ms, stats

LEVELS = 12
OUTAGE_MS = 200
SECONDS = 1_800.0  # of generated course that a guess is judged by
LEAST_LEVEL = 0.04  # of the mean: less is an outage
ROUNDS = 4  # of levels against quantiles, a guess


def fit(name: str, course: Course, seed: int = 0, guesses: int = 12) -> MarkovLink:
    """The generator whose courses are most like this one; see `misfit`. Takes a minute or two."""
    gaps = gaps_ms(course)
    outages = gaps[gaps >= OUTAGE_MS]
    first = MarkovLink(
        name,
        (1.0,) * LEVELS,
        stay_ms=1_000.0,
        near=0.8,
        fading=0.5,
        fading_ms=100.0,
        outages_a_minute=len(outages) / (course.length_ns / 60e9),
        outage_p50_ms=float(np.median(outages)) if len(outages) else OUTAGE_MS,
        # Such that their mean is right, and with it their share of the time: few long ones make most of it.
        outage_sigma=float(np.sqrt(2 * np.log(outages.mean() / np.median(outages)))) if len(outages) > 1 else 0.5,
        grain_ms=max(1, int(np.median(gaps[gaps < OUTAGE_MS]))),
    )
    wanted = _quantiles(course, 250)

    def guess(numbers: Sequence[float]) -> MarkovLink:
        stay, near, fading, memory, apart = numbers
        link = replace(first, stay_ms=float(np.exp(stay)), near=float(near), fading=float(fading))
        link = replace(link, fading_ms=float(np.exp(memory)), outages_a_minute=first.outages_a_minute * float(apart))
        return with_levels(link, wanted, 250, seed)

    # The last: of the outages that are counted, the share that is no part of a low level.
    bounds = [(np.log(100), np.log(20_000)), (0.0, 1.0), (0.02, 1.5), (np.log(15), np.log(1_000)), (0.1, 1.0)]

    def error(numbers: Sequence[float]) -> float:
        return misfit(guess(numbers), course, seed)

    found = differential_evolution(error, bounds, maxiter=guesses, popsize=5, seed=seed, polish=False)
    return guess(found.x)


def misfit(link: MarkovLink, course: Course, seed: int) -> float:
    """Mean of the errors: of mean and quantiles (to the course's mean), of correlations and of the share of outages."""
    had, made = stats(course), stats(link.draw(SECONDS, seed))
    errors = [abs(made.mean_mbps / had.mean_mbps - 1)]
    for window in WINDOWS_MS:
        pairs = zip(had.quantiles[window], made.quantiles[window], strict=True)
        errors += [abs(a - b) / had.mean_mbps for a, b in pairs]
        errors += [2 * abs(had.lag_one[window] - made.lag_one[window])]
    errors += [2 * abs(had.outage_share - made.outage_share)]
    return float(np.mean(errors))


def with_levels(
    link: MarkovLink, wanted: np.ndarray, window_ms: int, seed: int, least_level: float = LEAST_LEVEL
) -> MarkovLink:
    """Levels such that windows with any capacity have the quantiles `wanted` [n], at equal steps of share, Mbit/s."""
    at, shares = _middles(len(wanted)), _middles(LEVELS)
    least = least_level * float(wanted.mean())
    levels = np.maximum(np.interp(shares, at, wanted), least)
    for _ in range(ROUNDS):
        made = replace(link, levels_mbps=tuple(np.sort(levels))).draw(SECONDS, seed)
        target, is_now = np.interp(shares, at, wanted), np.interp(shares, at, _quantiles(made, window_ms))
        levels = np.maximum(levels * np.clip((target + 0.01) / (is_now + 0.01), 0.5, 2.0), least)
    return replace(link, levels_mbps=tuple(round(float(level), 3) for level in np.sort(levels)))


def _quantiles(course: Course, window_ms: int) -> np.ndarray:
    """[400] Mbit/s, of windows with any capacity: outages are counted by themselves."""
    rates = course.rates_bps(window_ms) / 1e6
    return np.asarray(np.quantile(rates[rates > 0], _middles(400)))


def _middles(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count
