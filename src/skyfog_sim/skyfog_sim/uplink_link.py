"""A car's uplink as a bottleneck that follows a trace: what it can carry by when, its queue, and its delay.

Capacity is a course of delivery opportunities, as mahimahi records them (one line: a millisecond at which one packet of
1500 bytes could leave; the course repeats). An opportunity that finds nothing to send is lost; what a smaller message
leaves of one serves the next message if it waits already. So a message of s bytes that comes at time a is through when

    C(t) >= max(W, C(a)) + s        C(t): bytes of all opportunities up to t; W: C when the one before was through

which is one binary search in the cumulated course, whatever the length of queue and trace.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from skyfog_core.errors import SkyfogError
from skyfog_core.rng import stream
from skyfog_core.units import MS, S

PACKET_BYTES = 1_500
SLOT_NS = MS
MAX_SLOTS = 24 * 3_600_000
BUFFER_BYTES = 4 << 20  # cellular base stations queue for seconds (bufferbloat); what finds no room is lost


class CourseError(SkyfogError):
    """A trace cannot be used; the message says which file and why."""


class Course:
    """How many bytes a link can have carried by when. One slot a millisecond; repeats after the last."""

    def __init__(self, name: str, slots: np.ndarray) -> None:
        """`slots` [N] int64: bytes that can leave at each millisecond. Raises CourseError where that is nothing."""
        if not 0 < len(slots) <= MAX_SLOTS or (slots < 0).any() or not slots.any():
            raise CourseError(f"{name}: {len(slots)} ms of capacity, {slots.sum()} bytes: no course of a link")
        self.name = name
        cumulated = np.zeros(len(slots) + 1, dtype=np.int64)
        np.cumsum(slots, out=cumulated[1:])
        self.array = cumulated  # [N + 1]: bytes before each slot
        self._before = memoryview(cumulated)  # type: ignore[arg-type]  # read one by one, many times faster than numpy
        self._slots = len(slots)
        self._total = int(cumulated[-1])

    @property
    def length_ns(self) -> int:
        return self._slots * SLOT_NS

    @property
    def mean_bps(self) -> float:
        return self._total * 8 * S / self.length_ns

    def bytes_by(self, at_ns: int) -> int:
        """Of all opportunities before `at_ns`."""
        laps, slot = divmod(-(-at_ns // SLOT_NS), self._slots)
        return laps * self._total + self._before[slot]

    def when(self, total: int) -> int:
        """The time of the opportunity that takes the last of `total` bytes."""
        laps, byte = divmod(total - 1, self._total)
        slot = bisect_right(self._before, byte) - 1
        return (laps * self._slots + slot) * SLOT_NS

    def bps(self, from_ns: int, to_ns: int) -> float:
        """Mean capacity over a span."""
        return (self.bytes_by(to_ns) - self.bytes_by(from_ns)) * 8 * S / (to_ns - from_ns)

    def rates_bps(self, window_ms: int) -> np.ndarray:
        """[windows] mean capacity of each whole window of the course."""
        edges = self.array[::window_ms]
        return np.diff(edges) * (8_000 / window_ms)

    def without(self, spans: Iterable[tuple[int, int]], length_ns: int) -> Course:
        """As long as `length_ns`, with no opportunity from `a` to `b` ns for each span: outages put in by hand."""
        laps = -(-length_ns // self.length_ns)
        slots = np.tile(np.diff(self.array), laps)[: -(-length_ns // SLOT_NS)]
        for from_ns, to_ns in spans:
            slots[from_ns // SLOT_NS : to_ns // SLOT_NS] = 0
        return Course(self.name, slots)


def read_course(path: Path) -> Course:
    """A mahimahi trace: one integer a line, milliseconds, never falling. Raises CourseError."""
    try:
        times = np.array(path.read_text().split(), dtype=np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise CourseError(f"{path}: not a trace of delivery opportunities: {error}") from None
    if not len(times) or times[0] < 0 or (np.diff(times) < 0).any():
        raise CourseError(f"{path}: no times, or they fall")
    return of_times(path.stem if path.suffix == ".up" else path.name, times.tolist())


def of_times(name: str, times_ms: Sequence[int]) -> Course:
    """Opportunities of one packet at `times_ms`, ascending; the last is where the course begins again."""
    length = max(1, times_ms[-1])
    if length > MAX_SLOTS:
        raise CourseError(f"{name}: {length} ms is longer than a day")
    return Course(name, np.bincount(np.array(times_ms) % length, minlength=length).astype(np.int64) * PACKET_BYTES)


def of_rates(name: str, rates_bps: Sequence[float] | np.ndarray, step_ms: int = 1) -> Course:
    """A rate for each step, carried out evenly over its milliseconds."""
    slots = np.repeat(np.asarray(rates_bps, dtype=float), step_ms) / 8_000
    return Course(name, np.diff(np.floor(np.cumsum(slots) + 1e-6), prepend=0).astype(np.int64))


def of_function(name: str, rate_bps: Callable[[float], float], seconds: float) -> Course:
    """A rate as a function of time in seconds."""
    return of_rates(name, [rate_bps(i / 1_000) for i in range(round(seconds * 1_000))])


@dataclass(frozen=True, slots=True)
class RttModel:
    """Round trip of a small message that meets no queue: a minimum, and on top a log-normal that comes in spells.

    The quantiles that are published (see uplink_markov) are of pings seconds apart; how long a spell lasts is assumed.
    """

    min_ms: float
    p50_ms: float
    p99_ms: float
    spell_ms: float = 500.0
    step_ms: int = 20

    def draw(self, length_ns: int, seed: int) -> Rtt:
        """A course of it, the same for the same seed."""
        above, tail = self.p50_ms - self.min_ms, self.p99_ms - self.min_ms
        count = max(2, -(-length_ns // (self.step_ms * MS)))
        if above <= 0:
            return Rtt(np.full(count, self.min_ms), self.step_ms)
        sigma = math.log(tail / above) / 2.326
        keep = math.exp(-self.step_ms / self.spell_ms)
        noise = np.random.default_rng(stream(seed, "rtt").getrandbits(64)).standard_normal(count)
        noise[1:] *= math.sqrt(1 - keep**2)
        return Rtt(self.min_ms + above * np.exp(sigma * lfilter([1.0], [1.0, -keep], noise)), self.step_ms)


LTE_RTT = RttModel(20.0, 32.0, 109.0)  # published: ping p50 32, p99 109 ms; the minimum is assumed
STARLINK_RTT = RttModel(35.0, 58.0, 130.0)  # published: p50 58 ms; minimum and p99 are assumed


class Rtt:
    """How the round trip goes over time; repeats."""

    def __init__(self, rtts_ms: np.ndarray, step_ms: int = 20) -> None:
        """`rtts_ms` [N]."""
        self.rtts_ms, self.step_ms = rtts_ms, step_ms
        self._half_ns = memoryview((rtts_ms * (MS / 2)).astype(np.int64))  # type: ignore[arg-type]
        self._step_ns = step_ms * MS
        self._count = len(rtts_ms)

    def one_way_ns(self, now_ns: int) -> int:
        """Half of the round trip of a message that leaves now."""
        return self._half_ns[(now_ns // self._step_ns) % self._count]


def fixed_rtt(ms: float) -> Rtt:
    """Always the same."""
    return Rtt(np.array([ms]))


class Bottleneck:
    """The uplink: first in, first out, at the course's rate, with a bounded buffer; then half a round trip."""

    def __init__(self, course: Course, rtt: Rtt, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.course, self.rtt, self.buffer_bytes = course, rtt, buffer_bytes
        self.carried_bytes = 0
        self.lost = 0  # messages that found no room
        self.late_ns = 0  # added to each way: a fault
        self._through = 0  # of the course's bytes: where the last message in the queue ends
        self._came_ns = 0

    def carry(self, size: int, now_ns: int) -> int | None:
        """When a message that is sent now comes; None where it found no room. Calls are in order of time."""
        start = max(self._through, self.course.bytes_by(now_ns))
        if self._through - self.course.bytes_by(now_ns) + size > self.buffer_bytes:
            self.lost += 1
            return None
        self._through = start + size
        self.carried_bytes += size
        leaves_ns = max(now_ns, self.course.when(self._through))
        self._came_ns = max(self._came_ns, leaves_ns + self.rtt.one_way_ns(leaves_ns) + self.late_ns)
        return self._came_ns

    def forget(self, now_ns: int) -> None:
        """What is queued is gone: the session broke."""
        self._through = min(self._through, self.course.bytes_by(now_ns))

    def queued_bytes(self, now_ns: int) -> int:
        return max(0, self._through - self.course.bytes_by(now_ns))


class Downlink:
    """The way back: fast, so that only half a round trip counts; in order."""

    def __init__(self, rtt: Rtt) -> None:
        self.rtt = rtt
        self.late_ns = 0
        self._came_ns = 0

    def carry(self, now_ns: int) -> int:
        """When a message that is sent now comes."""
        self._came_ns = max(self._came_ns, now_ns + self.rtt.one_way_ns(now_ns) + self.late_ns)
        return self._came_ns
