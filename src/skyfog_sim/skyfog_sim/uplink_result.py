"""What became of a drive's frames, and the figures that contenders are compared by."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from skyfog_core.units import S
from skyfog_sim.uplink_drive import Drive
from skyfog_uplink.policy.frames import MISSES, Ended, Frame, Outcome, SendChunk
from skyfog_uplink.policy.link import LEVELS, LinkState
from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.plan import Plan

FLAP_NS = 5 * S  # a service that is back where it was within this has flapped
BUCKET_S = 1.0  # of the courses over time
NONE = -2  # no answer at all, not even the car's own: worth nothing


@dataclass(frozen=True)
class ServiceResult:
    """One service of one drive. Frames are images, not copies: probes are counted apart."""

    name: str
    frames: int
    in_time: int  # answered by the deadline, by car or cloud
    offloaded: int  # a byte was sent of the planned copy
    outcomes: dict[Outcome, int]  # of planned copies
    probes: int  # of which a byte was sent
    probes_in_time: int
    utility: float  # mean accuracy realised, by weight

    @property
    def misses(self) -> int:
        return sum(self.outcomes.get(outcome, 0) for outcome in MISSES)


@dataclass(frozen=True)
class UplinkResult:
    """One drive with one contender."""

    contender: str
    utility: float  # mean realised, weights normalised: sum of weight x accuracy over sum of weight
    services: tuple[ServiceResult, ...]
    seconds: float
    plans: int
    changes: int  # of a service's option
    flaps: int  # of those, back to where it was within FLAP_NS
    sent_bytes: int  # of frames; headers and pings not among them
    probe_bytes: int
    wasted_bytes: int  # of frames that were not answered in time
    carried_bytes: int  # with headers and pings
    capacity_bytes: int
    utility_over_time: tuple[float, ...]  # each BUCKET_S
    estimates: tuple[tuple[float, float, float], ...] = field(repr=False, default=())  # Mbit/s: low, median; planned

    @property
    def outcomes(self) -> Counter[Outcome]:
        return sum((Counter(service.outcomes) for service in self.services), Counter())

    @property
    def frames(self) -> int:
        return sum(service.frames for service in self.services)

    @property
    def offloaded(self) -> int:
        return sum(service.offloaded for service in self.services)

    @property
    def miss_share(self) -> float:
        """Of offloaded frames."""
        return sum(service.misses for service in self.services) / max(1, self.offloaded)

    @property
    def in_time_share(self) -> float:
        return sum(service.in_time for service in self.services) / max(1, self.frames)

    @property
    def utilisation(self) -> float:
        return self.carried_bytes / max(1, self.capacity_bytes)


class Tally:
    """Written by the world as it goes."""

    def __init__(self, drive: Drive, contender: str) -> None:
        self._drive, self._contender = drive, contender
        services = drive.table.services
        # The option whose answer was published in time, by service and frame; the best where there are several.
        self.best = [np.full(len(frames.captured_ns), NONE) for frames in drive.frames]
        self._accuracy = [[*(o.accuracy for o in s.options), 0.0, s.floor.accuracy] for s in services]
        self.outcomes: list[Counter[Outcome]] = [Counter() for _ in services]
        self.probes: list[Counter[Outcome]] = [Counter() for _ in services]
        self.plans = self.changes = self.flaps = 0
        self.sent_bytes = self.probe_bytes = self.wasted_bytes = 0
        self._bytes: dict[int, int] = {}  # sent of open frames
        self._options = [FLOOR] * len(services)
        self._before: list[deque[tuple[int, int]]] = [deque(maxlen=1) for _ in services]  # when, from which
        self._courses: list[tuple[float, float, float]] = []
        self._budget = 0.0

    def link(self, link: LinkState) -> None:
        low, median = link.rates_bps[LEVELS.index(0.05)], link.rates_bps[LEVELS.index(0.5)]
        self._courses.append((low / 1e6, median / 1e6, self._budget / 1e6))

    def plan(self, plan: Plan, now_ns: int) -> None:
        self.plans += 1
        self._budget = sum(grant.rate_bps for grant in plan.grants)
        for at, grant in enumerate(plan.grants):
            if grant.option == self._options[at]:
                continue
            self.changes += 1
            before = self._before[at]
            self.flaps += bool(before) and before[0][1] == grant.option and now_ns - before[0][0] < FLAP_NS
            before.append((now_ns, self._options[at]))
            self._options[at] = grant.option

    def captured(self, service: int, row: int, now_ns: int) -> None:
        """An image was taken; its row in drive.frames."""

    def given(self, frame: Frame, now_ns: int) -> None:
        """The sender gets a frame."""

    def published(self, service: int, row: int, option: int, late: bool, now_ns: int) -> None:
        if not late:
            self.best[service][row] = option

    def sent(self, action: SendChunk, now_ns: int) -> None:
        self._bytes[action.frame] = self._bytes.get(action.frame, 0) + action.size
        self.sent_bytes += action.size
        if action.probe:
            self.probe_bytes += action.size

    def ended(self, ended: Ended, found: tuple[int, int, int] | None, now_ns: int) -> None:
        """`found` is None where it has ended before."""
        assert found is not None, f"frame {ended.frame.id} ends twice"
        sent = self._bytes.pop(ended.frame.id, 0)
        if not ended.frame.probe:
            self.outcomes[found[0]][ended.outcome] += 1
        elif sent:
            self.probes[found[0]][ended.outcome] += 1
        if ended.outcome is not Outcome.ON_TIME:
            self.wasted_bytes += sent

    def result(self, carried_bytes: int) -> UplinkResult:
        drive = self._drive
        gains, worths, rows = [], [], []
        buckets = max(1, int(np.ceil(drive.seconds / BUCKET_S)))
        gained_at, worth_at = np.zeros(buckets), np.zeros(buckets)
        for at, (service, frames) in enumerate(zip(drive.table.services, drive.frames, strict=True)):
            worth = frames.weights / service.rate_hz
            gain = worth * np.array(self._accuracy[at])[self.best[at]]
            bucket = np.minimum(frames.captured_ns // round(BUCKET_S * S), buckets - 1)
            np.add.at(gained_at, bucket, gain)
            np.add.at(worth_at, bucket, worth)
            gains.append(gain.sum())
            worths.append(worth.sum())
            outcomes, probes = self.outcomes[at], self.probes[at]
            misses = sum(outcomes[outcome] for outcome in MISSES)
            rows.append(
                ServiceResult(
                    service.name,
                    len(worth),
                    int((self.best[at] != NONE).sum()),
                    misses + outcomes[Outcome.ON_TIME],
                    dict(outcomes),
                    probes.total(),
                    probes[Outcome.ON_TIME],
                    float(gain.sum() / max(worth.sum(), 1e-12)),
                )
            )
        return UplinkResult(
            self._contender,
            float(sum(gains) / max(sum(worths), 1e-12)),
            tuple(rows),
            drive.seconds,
            self.plans,
            self.changes,
            self.flaps,
            self.sent_bytes,
            self.probe_bytes,
            self.wasted_bytes,
            carried_bytes,
            drive.course.bytes_by(drive.length_ns),
            tuple((gained_at / np.maximum(worth_at, 1e-12)).tolist()),
            tuple(self._courses),
        )
