"""An oracle that knows the trace and every draw: what a plan of TURBO's kind gains where nothing need be estimated.

Two choices of options, of which each drive takes the better:

    planned   every `interval_ms` the exact multiple-choice knapsack over services, with the true capacity of the
              interval to come; an option costs its mean bytes times its rate
    priced    each frame takes what it gains most by at the prices of the upper bound (uplink_bound)

Frames then go earliest deadline first, one at a time, and only where the answer will be in time; where the chosen
option would not be, the next less accurate one that would. Nothing is ever sent in vain, so it has no misses. It is no
upper bound (it does not look beyond the frame in hand): that is uplink_bound, beside which it is reported.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from skyfog_core.units import MS
from skyfog_sim.uplink_bound import Bound, bound, priced, stakes
from skyfog_sim.uplink_drive import Drive
from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.solve import Choices, Knapsack, padded

INTERVALS_MS = (250, 1_000)
CELLS = 400


@dataclass(frozen=True, slots=True)
class OracleResult:
    """`chosen` by service [N]: the option whose answer came, or FLOOR."""

    utility: float
    how: str
    sent_bytes: int
    chosen: tuple[np.ndarray, ...]
    bound: Bound


def oracle(drive: Drive) -> OracleResult:
    """The best of its choices."""
    limit = bound(drive)
    plans = [(f"planned each {ms} ms", planned(drive, ms)) for ms in INTERVALS_MS]
    plans.append(("priced", by_price(drive, limit)))
    played = [(*send(drive, wanted), how) for how, wanted in plans]
    utility, sent, chosen, how = max(played, key=lambda one: one[0])
    return OracleResult(utility, how, sent, chosen, limit)


def planned(drive: Drive, interval_ms: int) -> list[np.ndarray]:
    """By service [N]: the option planned for each frame."""
    services = drive.table.services
    count = -(-drive.length_ns // (interval_ms * MS))
    options = np.full((len(services), count), FLOOR)
    since = [at for at, _ in drive.weights]
    trip_ms = float(np.median(drive.rtt.rtts_ms))
    floors = np.array([service.floor.accuracy for service in services])
    accuracies = padded([[option.accuracy for option in service.options] for service in services], 0.0)
    for at in range(count):
        from_ns = at * interval_ms * MS
        bps = drive.course.bps(from_ns, from_ns + interval_ms * MS)
        weights = drive.weights[int(np.searchsorted(since, from_ns, side="right")) - 1][1]
        if bps <= 0:
            continue
        knapsack = Knapsack(CELLS, bps / CELLS * (1 + 1e-9))
        costs = padded([_costs(drive, each, bps, trip_ms) for each in range(len(services))], np.inf)
        knapsack.solve(Choices(weights * floors, weights[:, None] * accuracies, costs))
        options[:, at] = knapsack.choice(bps)
    return [
        options[at, np.minimum(frames.captured_ns // (interval_ms * MS), count - 1)]
        for at, frames in enumerate(drive.frames)
    ]


def _costs(drive: Drive, at: int, bps: float, trip_ms: float) -> list[float]:
    service = drive.table.services[at]
    costs = []
    for option in service.options:
        left_ms = service.slo_ms - option.pre_ms.mean - option.exec_ms.mean - trip_ms
        fits = left_ms > 0 and 8_000 * option.bytes.mean / left_ms <= bps
        costs.append(8 * option.bytes.mean * service.rate_hz if fits else np.inf)
    return costs


def by_price(drive: Drive, limit: Bound) -> list[np.ndarray]:
    """By service [N]: what each frame gains most by."""
    found = []
    for each in stakes(drive):
        _, option, net = priced(each, limit.prices, limit.window_ms)
        found.append(np.where(net > 0, option, FLOOR))
    return found


def send(drive: Drive, wanted: Sequence[np.ndarray]) -> tuple[float, int, tuple[np.ndarray, ...]]:
    """Utility, bytes sent, and what came of each frame."""
    course, rtt = drive.course, drive.rtt
    chosen = tuple(np.full(len(frames.captured_ns), FLOOR) for frames in drive.frames)
    coming = list(_released(drive, wanted))
    through = sent = at = 0
    now_ns = 0
    waiting: list[tuple[int, int, int]] = []
    while at < len(coming) or waiting:
        if not waiting:
            now_ns = max(now_ns, coming[at][0])
        while at < len(coming) and coming[at][0] <= now_ns:
            heapq.heappush(waiting, coming[at][1:])
            at += 1
        deadline_ns, service, frame = heapq.heappop(waiting)
        frames = drive.frames[service]
        start = max(through, course.bytes_by(now_ns))
        for option in _from_best(drive, service, int(wanted[service][frame])):
            if frames.captured_ns[frame] + frames.pre_ns[frame, option] > now_ns:
                continue
            size = int(frames.sizes[frame, option])
            done_ns = max(now_ns, course.when(start + size))
            out_ns = done_ns + rtt.one_way_ns(done_ns) + int(frames.exec_ns[frame, option])
            if out_ns + rtt.one_way_ns(out_ns) <= deadline_ns:
                through, now_ns, sent = start + size, done_ns, sent + size
                chosen[service][frame] = option
                break
    return _utility(drive, chosen), sent, chosen


def _released(drive: Drive, wanted: Sequence[np.ndarray]) -> Iterator[tuple[int, int, int, int]]:
    """(encoded, deadline, service, frame) of what is to be sent, in order of encoding."""
    found = []
    for at, (frames, service) in enumerate(zip(drive.frames, drive.table.services, strict=True)):
        rows = np.flatnonzero(wanted[at] != FLOOR)
        released = frames.captured_ns[rows] + frames.pre_ns[rows, wanted[at][rows]]
        deadlines = frames.captured_ns[rows] + round(service.slo_ms * MS)
        found += [
            (ready, deadline, at, row)
            for ready, deadline, row in zip(released.tolist(), deadlines.tolist(), rows.tolist(), strict=True)
        ]
    return iter(sorted(found))


def _from_best(drive: Drive, service: int, wanted: int) -> Sequence[int]:
    """The wanted option, then those that are better than the floor and cheaper, best first."""
    options = drive.table.services[service].options
    floor = drive.table.services[service].floor.accuracy
    lesser = [
        at
        for at, option in enumerate(options)
        if floor < option.accuracy < options[wanted].accuracy and option.bytes.mean < options[wanted].bytes.mean
    ]
    return [wanted, *sorted(lesser, key=lambda at: -options[at].accuracy)]


def _utility(drive: Drive, chosen: Sequence[np.ndarray]) -> float:
    gained = worth = 0.0
    for service, frames, options in zip(drive.table.services, drive.frames, chosen, strict=True):
        share = frames.weights / service.rate_hz
        accuracy = np.array([*(option.accuracy for option in service.options), service.floor.accuracy])
        floor = (options == FLOOR) & (frames.floor_ns > service.slo_ms * MS)
        gained += float((share * accuracy[options] * ~floor).sum())
        worth += float(share.sum())
    return gained / worth
