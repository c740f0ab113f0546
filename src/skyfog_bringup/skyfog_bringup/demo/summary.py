"""From requests and faults to the figures of a run: phases, latencies, who won, and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skyfog_bringup.demo.ledger import Membership, Request
from skyfog_bringup.demo.schedule import FaultKind
from skyfog_core.units import S, ns_to_ms


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that was injected: into whom, when, and how many of the `recent` answers before it were the victim's."""

    kind: FaultKind
    replica: str
    t_ns: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; each a latency that was seen (the nearest rank upwards). None where there was no answer."""

    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class Phase:
    """The time from one fault to the next."""

    name: str
    from_s: float
    to_s: float
    requests: int
    failed: int
    latency: Latency
    won: dict[str, int]


@dataclass(frozen=True, slots=True)
class Event:
    """A line of "what happened when", in seconds after the start."""

    at_s: float
    text: str


def latency_of(requests: Sequence[Request]) -> Latency:
    """Over the answered requests."""
    values = [request.ms for request in requests if request.ok]
    if not values:
        return Latency(None, None, None, None)
    p50, p90, p99, top = np.percentile(values, [50, 90, 99, 100], method="higher")
    return Latency(round(float(p50), 2), round(float(p90), 2), round(float(p99), 2), round(float(top), 2))


def zone_of(replica: str) -> str:
    """The zone of a replica named zone/replica."""
    return replica.partition("/")[0]


def phases(requests: Sequence[Request], injected: Sequence[Injected], start_ns: int, end_ns: int) -> list[Phase]:
    """The phases between faults, and last the whole run. A request belongs to the phase in which it was sent."""
    bounds = [start_ns, *(fault.t_ns for fault in injected), end_ns]
    names = ["all healthy", *(f"{zone_of(fault.replica)} {fault.kind.done}" for fault in injected)]
    parts = [
        _phase(name, requests, start_ns, low, high) for name, low, high in zip(names, bounds, bounds[1:], strict=False)
    ]
    return [*parts, _phase("whole run", requests, start_ns, start_ns, end_ns)]


def _phase(name: str, requests: Sequence[Request], start_ns: int, low: int, high: int) -> Phase:
    inside = [request for request in requests if low <= request.sent_ns < high]
    return Phase(
        name=name,
        from_s=round((low - start_ns) / S, 2),
        to_s=round((high - start_ns) / S, 2),
        requests=len(inside),
        failed=sum(not request.ok for request in inside),
        latency=latency_of(inside),
        won=dict(Counter(zone_of(request.replica) for request in inside if request.replica)),
    )


def events(
    requests: Sequence[Request], injected: Sequence[Injected], members: Sequence[Membership], start_ns: int
) -> list[Event]:
    """What happened when: each fault, what the robot's proxy noticed of it, who answered next, and each failure."""
    found = []
    for fault in injected:
        zone = zone_of(fault.replica)
        found.append(Event((fault.t_ns - start_ns) / S, f"{fault.kind} to {zone}{_noticed(fault, members)}"))
        after = [request for request in requests if request.ok and request.done_ns > fault.t_ns and request.replica]
        under_way = [request for request in after if request.sent_ns <= fault.t_ns]
        first = min(after, key=lambda request: request.done_ns, default=None)
        if first is not None:
            late = f"; {len(under_way)} under way, all answered" if under_way else ""
            text = f"{zone_of(first.replica)} answers next, in {first.ms:.0f} ms{late}"
            found.append(Event((first.done_ns - start_ns) / S, text))
    found += [
        Event((request.done_ns - start_ns) / S, f"failed: {request.image}: {request.why}")
        for request in requests
        if not request.ok
    ]
    return sorted(found, key=lambda event: event.at_s)


def _noticed(fault: Injected, members: Sequence[Membership]) -> str:
    for change in members:
        if change.replica == fault.replica and not change.there and change.t_ns > fault.t_ns:
            return f"; seen as gone {ns_to_ms(change.t_ns - fault.t_ns):.0f} ms later"
    return "; its connection stays open, so it still counts as there"


def rows(found: Sequence[Phase]) -> list[dict[str, Any]]:
    """The phases as the report's rows."""
    return [
        {
            "phase": phase.name,
            "from_s": phase.from_s,
            "to_s": phase.to_s,
            "requests": phase.requests,
            "failed": phase.failed,
            "p50_ms": phase.latency.p50,
            "p90_ms": phase.latency.p90,
            "p99_ms": phase.latency.p99,
            "max_ms": phase.latency.max,
            "won": phase.won,
        }
        for phase in found
    ]


def goals(found: Sequence[Phase], planned: int, injected: int) -> list[dict[str, Any]]:
    """What must hold of every run."""
    whole = found[-1]
    return [
        {"name": "requests sent, at least", "goal": 1, "value": whole.requests, "met": whole.requests >= 1},
        {"name": "requests failed", "goal": 0, "value": whole.failed, "met": whole.failed == 0},
        {"name": "faults injected", "goal": planned, "value": injected, "met": injected == planned},
    ]
