"""Requests to a pool, apart from how the pool runs: when they come, and how long they take through the ready replicas.

The pool's replay says when each replica served (`Served`); here requests flow through those. Each replica runs
`concurrency` of them at once, who waits longest goes first, to whichever replica is free: what a router that sends to
the least loaded comes to. A request that runs on a machine that is taken without notice is sent again; one whose
deadline passes is cancelled, and has failed.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from skyfog_core.rng import stream
from skyfog_core.units import S
from skyfog_sim.machines import Served

Pattern = Literal["poisson", "bursty", "diurnal"]

BURST_RATE = 1.8  # of a burst, to the mean rate
BURST_SHARE = 0.2  # of time
BURST_S = 120.0  # mean length of one
DIURNAL_SWING = 0.6  # the busiest hour has (1 + this) times the mean rate
DAY_S = 86_400.0
ROUNDING_S = 1e-6  # of times since the beginning of a trace of months


@dataclass(frozen=True, slots=True)
class Demand:
    """What robots ask. The defaults load four replicas to one half, bursts to 0.9, the busiest hour to 0.8."""

    pattern: Pattern = "poisson"
    rate: float = 0.4  # requests a second, mean
    service_s: float = 20.0  # mean on a replica
    service_sigma: float = 0.6  # of its logarithm
    concurrency: int = 4  # requests that a replica runs at once
    deadline_s: float = 100.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Requests in order of time: when, and how long each runs. One seed gives the same for every policy."""

    demand: Demand
    at_s: Sequence[float]
    runs_s: Sequence[float]

    def between(self, from_ns: int, to_ns: int) -> int:
        """How many came in a span."""
        return bisect_left(self.at_s, to_ns / S) - bisect_left(self.at_s, from_ns / S)


@dataclass(frozen=True, slots=True)
class Latencies:
    """What robots saw; a request that failed counts as one that took its whole deadline."""

    requests: int
    failed: int  # not answered within the deadline
    retried: int  # begun again, since the machine was taken
    p50_s: float
    p90_s: float
    p99_s: float


def arrivals(demand: Demand, length_ns: int, seed: int) -> Arrivals:
    """Draw them."""
    random = stream(seed, "requests", demand.pattern)
    at_s = list(_TIMES[demand.pattern](demand.rate, length_ns / S, random))
    sigma = demand.service_sigma
    mu = math.log(demand.service_s) - sigma * sigma / 2
    return Arrivals(demand, at_s, [math.exp(random.gauss(mu, sigma)) for _ in at_s])


def _poisson(rate: float, length_s: float, random: Random) -> Iterator[float]:
    now_s = random.expovariate(rate)
    while now_s < length_s:
        yield now_s
        now_s += random.expovariate(rate)


def _bursty(rate: float, length_s: float, random: Random) -> Iterator[float]:
    """A Markov chain of two states, each with Poisson arrivals of its own rate."""
    calm_rate = rate * (1 - BURST_SHARE * BURST_RATE) / (1 - BURST_SHARE)
    calm_s = BURST_S * (1 - BURST_SHARE) / BURST_SHARE
    now_s, is_burst = 0.0, False
    while now_s < length_s:
        until_s = min(length_s, now_s + random.expovariate(1 / (BURST_S if is_burst else calm_s)))
        yield from (
            now_s + at_s for at_s in _poisson(rate * BURST_RATE if is_burst else calm_rate, until_s - now_s, random)
        )
        now_s, is_burst = until_s, not is_burst


def _diurnal(rate: float, length_s: float, random: Random) -> Iterator[float]:
    """A sine over the day, by thinning."""
    for at_s in _poisson(rate * (1 + DIURNAL_SWING), length_s, random):
        if random.random() * (1 + DIURNAL_SWING) < 1 + DIURNAL_SWING * math.sin(2 * math.pi * at_s / DAY_S):
            yield at_s


_TIMES = {"poisson": _poisson, "bursty": _bursty, "diurnal": _diurnal}


class _Flow:
    """Requests that wait and run; time is moved by what happens."""

    def __init__(self, requests: Arrivals) -> None:
        self.requests, self.demand = requests, requests.demand
        self.waiting: deque[int] = deque()
        self.ends: list[tuple[float, int, int]] = []  # end, request, replica
        self.running: dict[int, dict[int, float]] = {}  # by replica that serves: request and its end
        self.free: list[int] = []  # a replica as often as it has room
        self.took_s: list[float] = []
        self.failed = self.retried = 0

    def add(self, replica: int, now_s: float) -> None:
        self.running[replica] = {}
        self.free += [replica] * self.demand.concurrency
        self.fill(now_s)

    def stop(self, replica: int, abrupt: bool) -> None:
        """It takes no more. What runs there ends as it would have, or is sent again where the machine is gone."""
        running = self.running.pop(replica)
        self.free = [other for other in self.free if other != replica]
        if abrupt:
            self.retried += len(running)
            self.waiting.extendleft(sorted(running, reverse=True))
            dead = set(running)
            self.ends = [end for end in self.ends if end[2] != replica or end[1] not in dead]
            heapq.heapify(self.ends)

    def advance(self, to_s: float) -> None:
        """All ends up to a moment."""
        ends, running = self.ends, self.running
        while ends and ends[0][0] <= to_s:
            end_s, request, replica = heapq.heappop(ends)
            self.account(end_s - self.requests.at_s[request])
            on_replica = running.get(replica)
            if on_replica is not None:
                del on_replica[request]
                self.free.append(replica)
                if self.waiting:
                    self.fill(end_s)

    def fill(self, now_s: float) -> None:
        """Start who waits, while there is room."""
        deadline_s = self.demand.deadline_s
        while self.waiting and self.free:
            request = self.waiting.popleft()
            since_s = self.requests.at_s[request]
            if now_s - since_s >= deadline_s:
                self.account(deadline_s)
                continue
            replica = self.free.pop(0)
            end_s = min(now_s + self.requests.runs_s[request], since_s + deadline_s)
            self.running[replica][request] = end_s
            heapq.heappush(self.ends, (end_s, request, replica))

    def account(self, took_s: float) -> None:
        self.took_s.append(took_s)
        if took_s > self.demand.deadline_s - ROUNDING_S:
            self.failed += 1


def flow(requests: Arrivals, served: Sequence[Served], from_ns: int = 0) -> Latencies:
    """Let requests flow through replicas; those that come before `from_ns`, the first start, are left out."""
    served = [one for one in served if one.to_ns > one.from_ns]
    changes = [(one.from_ns / S, 1, one.replica, False) for one in served]
    changes += [(one.to_ns / S, 0, one.replica, one.abrupt) for one in served]
    state = _Flow(requests)
    changes.sort()
    at_s, next_change = requests.at_s, 0
    for request in range(bisect_left(at_s, from_ns / S), len(at_s)):
        now_s = at_s[request]
        while next_change < len(changes) and changes[next_change][0] <= now_s:
            _change(state, changes[next_change])
            next_change += 1
        state.advance(now_s)
        state.waiting.append(request)
        if state.free:
            state.fill(now_s)
    for change in changes[next_change:]:
        _change(state, change)
    state.advance(math.inf)
    for _ in state.waiting:  # nobody was left to serve them
        state.account(requests.demand.deadline_s)
    return _summary(state)


def _change(state: _Flow, change: tuple[float, int, int, bool]) -> None:
    now_s, is_up, replica, abrupt = change
    state.advance(now_s)
    if is_up:
        state.add(replica, now_s)
    elif replica in state.running:
        state.stop(replica, abrupt)
        state.fill(now_s)


def _summary(state: _Flow) -> Latencies:
    took = sorted(state.took_s)
    p50, p90, p99 = (took[min(len(took) - 1, int(share * len(took)))] if took else 0.0 for share in (0.5, 0.9, 0.99))
    return Latencies(len(took), state.failed, state.retried, p50, p90, p99)
