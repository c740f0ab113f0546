"""What a router knows, for those who look: status, diagnostics, metrics. Plain values, a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ReplicaStateName = Literal["healthy", "suspect", "ejected", "probing", "backing_off"]


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """One live replica as its router sees it."""

    zone: str
    replica: str
    state: ReplicaStateName
    why: str  # of a state other than healthy
    local: bool
    price_per_hour: float
    capacity: int
    in_flight: int  # of this robot
    queue_depth: int  # last told
    asked: int
    answered: int
    won: int
    failed: int
    ejections: int
    p50_ms: float | None  # None: nothing known
    p99_ms: float | None
    back_in_ms: float  # until an ejected one is tried again, or one that pushed back is asked


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    """One service of a robot: totals since the start, and its replicas."""

    policy: str
    rank: str
    in_flight: int
    called: int
    delivered: int
    failed: int
    late: int
    sends: int  # to replicas, first copies included
    extra: int  # sends beyond one a request, within the budget
    rescues: int  # sends beyond the budget
    local: int  # answered by the fallback on the robot
    slo_ms: float | None  # in force: as set, or as learnt
    within_slo: int
    p50_ms: float | None  # of delivered requests, recent
    p99_ms: float | None
    panic: bool
    failures: Mapping[str, int] = field(default_factory=dict)  # by the error's name
    replicas: tuple[ReplicaSnapshot, ...] = ()
    recent_us: tuple[int, ...] = ()  # what the newest delivered requests took, oldest first


@dataclass(frozen=True, slots=True)
class AdmissionSnapshot:
    """What a replica does: totals since its start."""

    concurrency: int  # requests that run at once
    max_queue: int
    running: int
    waiting: int
    started: int
    finished: int
    failed: int  # of these, without a result
    repeated: int  # queries for a request that was here already
    refused: Mapping[str, int] = field(default_factory=dict)  # by reason
    received: int = 0  # queries, repeated and refused ones among them
    busy_us: int = 0  # sum of the service times of finished runs
    draining: bool = False
    drained: bool = False  # nothing is here, and nothing more is taken
