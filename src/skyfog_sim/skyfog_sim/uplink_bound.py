"""What no policy can exceed on a drive: a fluid relaxation with prices.

Every frame of every service may take its best option with full knowledge of its own draws, in any order, in parts and
at once; all that is asked is that in each window no more bytes go than the trace has then, and that a frame's bytes go
in windows that touch the time between its encoding and the last moment that could still be in time. For any price of a
byte in each window, lambda >= 0,

    U <= sum_w lambda_w C_w + sum_f max(floor_f, max_o value_fo - size_fo * min_w lambda_w)     (Lagrange, weak duality)

so the bound holds whatever the prices; they are only searched for (multiplicatively: dearer where more is wanted than
there is) to make it small. It has no option of a frame that could not be in time with the link all to itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import minimum_filter1d

from skyfog_core.units import MS
from skyfog_sim.uplink_drive import Drive
from skyfog_uplink.policy.model import Service

WINDOW_MS = 1_000
ROUNDS = 120
NOTHING = -1e30  # the gain of what is impossible


@dataclass(frozen=True, slots=True)
class Stakes:
    """What one service's frames can gain. N frames, O options; values add up to the drive's utility times `worth`."""

    base: np.ndarray  # [N] of the floor
    gain: np.ndarray  # [N, O] above it; NOTHING where it cannot be in time
    released_ns: np.ndarray  # [N, O]
    latest_ns: np.ndarray  # [N, O] of the last byte off the link, at best
    sizes: np.ndarray  # [N, O]
    worth: float


@dataclass(frozen=True)
class Bound:
    """`prices` [windows] of a byte."""

    utility: float
    floor: float  # what the car's own models make
    prices: np.ndarray
    window_ms: int


def stakes(drive: Drive) -> list[Stakes]:
    """By service."""
    return [_stakes_of(drive, at, service) for at, service in enumerate(drive.table.services)]


def _stakes_of(drive: Drive, at: int, service: Service) -> Stakes:
    frames = drive.frames[at]
    share = frames.weights / service.rate_hz
    base = share * service.floor.accuracy * (frames.floor_ns <= service.slo_ms * MS)
    best_ns = _least_round_trip(drive, service)[frames.captured_ns // MS]
    released = frames.captured_ns[:, None] + frames.pre_ns
    latest = frames.captured_ns[:, None] + round(service.slo_ms * MS) - frames.exec_ns - best_ns[:, None]
    accuracy = np.array([option.accuracy for option in service.options])
    gain = share[:, None] * accuracy - base[:, None]
    fits = _bytes_by(drive, latest + 1) - _bytes_by(drive, released) >= frames.sizes
    gain[(latest < released) | ~fits | (gain <= 0)] = NOTHING
    return Stakes(base, gain, released, latest, frames.sizes, float(share.sum()))


def _least_round_trip(drive: Drive, service: Service) -> np.ndarray:
    """[ms of the drive] the least within the SLO from then on, ns."""
    step = drive.rtt.step_ms
    span = int(service.slo_ms // step) + 2
    count = int(drive.seconds * 1_000 // step) + 1
    rtts = np.resize(drive.rtt.rtts_ms, count + span)
    least = minimum_filter1d(rtts, span, origin=-(span // 2), mode="nearest")[:count]
    return np.asarray(np.repeat(least * MS, step).astype(np.int64))


def _bytes_by(drive: Drive, at_ns: np.ndarray) -> np.ndarray:
    course = drive.course.array
    laps, slot = np.divmod(-(-np.maximum(at_ns, 0) // MS), len(course) - 1)
    return np.asarray(laps * course[-1] + course[slot])


def bound(drive: Drive, window_ms: int = WINDOW_MS, rounds: int = ROUNDS) -> Bound:
    """The least that was found."""
    found = stakes(drive)
    worth = sum(each.worth for each in found)
    floor = sum(float(each.base.sum()) for each in found)
    edges = np.arange(0, drive.length_ns + window_ms * MS, window_ms * MS)
    capacity = np.diff(_bytes_by(drive, edges)).astype(float)
    prices = np.full(len(capacity), _first_price(found))
    least, best = np.inf, prices
    for at in range(rounds):
        gained, wanted = _at_prices(found, prices, window_ms)
        total = floor + gained + float(prices @ capacity)
        if total < least:
            least, best = total, prices.copy()
        pull = (wanted - capacity) / (np.maximum(wanted, capacity) + 1)  # -1 to 1
        prices *= np.exp(1.5 * pull / (1 + at / 15))
    return Bound(least / worth, floor / worth, best, window_ms)


def _first_price(found: list[Stakes]) -> float:
    per_byte = [(each.gain / each.sizes)[each.gain > 0] for each in found]
    every = np.concatenate(per_byte)
    return float(np.median(every)) if len(every) else 1e-9


def _at_prices(found: list[Stakes], prices: np.ndarray, window_ms: int) -> tuple[float, np.ndarray]:
    """What all frames gain net of what they pay, and the bytes [windows] that they want."""
    wanted = np.zeros(len(prices))
    gained = 0.0
    for each in found:
        where, option, net = priced(each, prices, window_ms)
        takes = net > 0
        gained += float(net[takes].sum())
        rows = np.flatnonzero(takes)
        np.add.at(wanted, where[rows, option[rows]], each.sizes[rows, option[rows]])
    return gained, wanted


def priced(each: Stakes, prices: np.ndarray, window_ms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each frame and option its cheapest window [N, O]; the option [N] that gains most, and its net gain [N]."""
    last_window = len(prices) - 1
    first = np.minimum(each.released_ns // (window_ms * MS), last_window)
    last = np.clip(each.latest_ns // (window_ms * MS), first, last_window)
    where, price = first, prices[first]
    for further in range(1, int((last - first).max(initial=0)) + 1):
        window = np.minimum(first + further, last)
        cheaper = prices[window] < price
        where, price = np.where(cheaper, window, where), np.where(cheaper, prices[window], price)
    net = each.gain - each.sizes * price
    option = net.argmax(axis=1)
    return where, option, net[np.arange(len(net)), option]
