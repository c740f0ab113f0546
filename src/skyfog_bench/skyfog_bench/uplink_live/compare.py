"""The simulation of a live run: its images at their times, what encoding, cloud and car took, its link and distance.

Production's policies are in both; the simulation's link is a model, and its cloud and encoders are draws from what the
run measured. What differs is what the model leaves out: processes that wait for a processor, sockets, middleware.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

import numpy as np

from skyfog_bench.uplink_live.calibrate import Times, measured_table
from skyfog_bench.uplink_live.record import Figures, Line, Run, flaps_of
from skyfog_bench.uplink_live.stage import FAST_MBIT
from skyfog_core.rng import stream
from skyfog_core.units import MS, S
from skyfog_sim.uplink import UplinkWorld
from skyfog_sim.uplink_contenders import ours
from skyfog_sim.uplink_drive import Drive, Frames, drawn
from skyfog_sim.uplink_link import Course, RttModel, read_course
from skyfog_sim.uplink_result import NONE, Tally
from skyfog_uplink.policy.frames import MISSES, Ended, Outcome
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Plan

TAIL_S = 2.0  # after the last image, for its answer


@dataclass(frozen=True)
class RecordedDrive(Drive):
    """A drive whose images were captured live."""

    recorded: tuple[Frames, ...] = ()

    @cached_property
    def frames(self) -> tuple[Frames, ...]:
        return self.recorded


class _Window(Tally):
    """Counts images captured, and plans made, from `begin_ns` on: what is before is there to settle."""

    def __init__(self, drive: Drive, contender: str, begin_ns: int) -> None:
        super().__init__(drive, contender)
        self.begin_ns = begin_ns
        self.chosen: list[tuple[int, tuple[int, ...]]] = []

    def ended(self, ended: Ended, found: tuple[int, int, int] | None, now_ns: int) -> None:
        if ended.frame.captured_ns >= self.begin_ns:
            super().ended(ended, found, now_ns)

    def plan(self, plan: Plan, now_ns: int) -> None:
        super().plan(plan, now_ns)
        chosen = now_ns, tuple(grant.option for grant in plan.grants)
        self.chosen = [chosen] if now_ns <= self.begin_ns else [*self.chosen, chosen]


@dataclass(frozen=True, slots=True)
class Played:
    """What a live run met, for the simulation to meet it too."""

    table: Table
    sizes: Mapping[str, np.ndarray]  # calibrate.film_bytes
    shots: Mapping[str, Sequence[Line]]  # by service
    times: Times  # of the run
    distance: RttModel
    trace: Path
    offset_s: float  # where in the trace `starts_ns` is
    begins_ns: int  # the car met its gateway, on a link of FAST_MBIT
    starts_ns: int  # the trace began to be followed
    run: Run  # the part that counts


def simulate(played: Played, seed: int) -> Figures:
    """The figures of one simulation; the seed draws times and distances."""
    table = measured_table(played.table, played.sizes, played.times)
    seconds = (played.run.end_ns - played.begins_ns) / S + TAIL_S
    rtt = played.distance.draw(round(seconds * S), seed)
    frames = tuple(_frames(played, table, at, seed) for at in range(len(table.services)))
    drive = RecordedDrive("live", table, _course(played, seconds), rtt, seconds, seed, recorded=frames)
    begin_ns = played.run.begin_ns - played.begins_ns
    tally = _Window(drive, "skyfog", begin_ns)
    UplinkWorld(drive, ours(), lambda *_: tally).run()
    return _figures(drive, tally, played.run)


def _course(played: Played, seconds: float) -> Course:
    """The fast link, then the trace from where it was entered."""
    slots = np.diff(read_course(played.trace).array)
    fast = np.full((played.starts_ns - played.begins_ns) // MS, FAST_MBIT * 125, dtype=np.int64)
    wanted = np.arange(round(seconds * 1_000) - len(fast)) + round(played.offset_s * 1_000)
    return Course("live", np.concatenate([fast, slots[wanted % len(slots)]]))


def distance_of(links: Sequence[Line]) -> RttModel:
    """The round trip on a link that is never in the way, as the car's estimator knew it.

    Its higher quantiles are careful rather than true while it has seen little, so the tail is that through p50 and p90.
    A spell is short: what there is beside jitter is mostly processes that wait.
    """
    up = [line for line in links if line["up"]]

    def typical(key: str) -> float:
        return float(median(line[key] for line in up))

    least = typical("rtt_min_ms")
    p50 = max(0.1, typical("rtt_p50_ms") - least)
    p90 = max(p50 + 0.1, typical("rtt_p90_ms") - least)
    return RttModel(least, least + p50, least + p50 * (p90 / p50) ** (2.326 / 1.282), spell_ms=50.0)


def _frames(played: Played, table: Table, at: int, seed: int) -> Frames:
    service = table.services[at]
    shots = [shot for shot in played.shots[service.name] if played.begins_ns <= shot["shot_ns"] < played.run.end_ns]
    sizes = played.sizes[service.name]
    random = np.random.default_rng(stream(seed, "live", service.name).getrandbits(64))
    pre, work, floor = random.random((3, len(shots)))
    return Frames(
        np.array([shot["shot_ns"] - played.begins_ns for shot in shots], dtype=np.int64),
        _ns(drawn(service.floor.exec_ms, floor)),
        sizes[[shot["index"] % len(sizes) for shot in shots]].astype(np.int64),
        np.stack([_ns(drawn(option.pre_ms, pre)) for option in service.options], axis=1),
        np.stack([_ns(drawn(option.exec_ms, work)) for option in service.options], axis=1),
        np.full(len(shots), service.weight),
    )


def _ns(ms: np.ndarray) -> np.ndarray:
    return (ms * MS).astype(np.int64)


def _figures(drive: Drive, tally: _Window, run: Run) -> Figures:
    gained = weight = 0.0
    images = answered = clouds = 0
    for chosen, service, frames in zip(tally.best, drive.table.services, drive.frames, strict=True):
        best = chosen[frames.captured_ns >= tally.begin_ns]
        worth = np.array([*(option.accuracy for option in service.options), 0.0, service.floor.accuracy])  # NONE, FLOOR
        gained += service.weight * float(worth[best].sum())
        weight += service.weight * len(best)
        images += len(best)
        answered += int((best != NONE).sum())
        clouds += int((best > FLOOR).sum())
    by: Counter[Outcome] = sum(tally.outcomes, Counter())
    missed = sum(by[outcome] for outcome in MISSES)
    sent = missed + by[Outcome.ON_TIME]
    minutes = run.seconds / 60
    changes, flaps = flaps_of(tally.chosen)
    return Figures(
        utility=gained / max(weight, 1e-9),
        met=answered / max(1, images),
        by_cloud=clouds / max(1, images),
        offloaded=sent / max(1, images),
        missed=missed / max(1, sent),
        withheld=(by[Outcome.WITHHELD] + by[Outcome.REPLACED]) / max(1, by.total()),
        changes=changes / minutes,
        flaps=flaps / minutes,
    )
