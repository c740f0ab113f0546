"""What a router may know, for tests of what is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skyfog_router.policy.snapshot import AdmissionSnapshot, ReplicaSnapshot, ServiceSnapshot
from skyfog_router.report import Origin, ServiceReport

HEALTHY = ReplicaSnapshot(
    zone="us-west",
    replica="0",
    state="healthy",
    why="",
    local=False,
    price_per_hour=0.35,
    capacity=4,
    in_flight=1,
    queue_depth=2,
    asked=100,
    answered=90,
    won=60,
    failed=3,
    ejections=0,
    p50_ms=42.5,
    p99_ms=180.0,
    back_in_ms=0.0,
)
CALM = ServiceSnapshot(
    policy="slo",
    rank="peak_ewma",
    in_flight=1,
    called=101,
    delivered=100,
    failed=0,
    late=7,
    sends=130,
    extra=28,
    rescues=2,
    local=0,
    slo_ms=200.0,
    within_slo=99,
    p50_ms=41.0,
    p99_ms=150.0,
    panic=False,
    failures={},
    replicas=(HEALTHY, replace(HEALTHY, zone="us-east")),
)
QUIET = AdmissionSnapshot(
    concurrency=4,
    max_queue=64,
    running=1,
    waiting=2,
    started=50,
    finished=49,
    failed=3,
    repeated=1,
    refused={"full": 5},
)


def admission(**changes: Any) -> AdmissionSnapshot:
    """A replica that runs and refuses now and then, but for the changes."""
    return replace(QUIET, **changes)


def replica(**changes: Any) -> ReplicaSnapshot:
    """A healthy one, but for the changes."""
    return replace(HEALTHY, **changes)


def service(**changes: Any) -> ServiceSnapshot:
    """One with two healthy replicas and no failure, but for the changes."""
    return replace(CALM, **changes)


def report(robot: str = "anna", name: str = "/detect", **changes: Any) -> ServiceReport:
    """A report of such a service."""
    return ServiceReport(Origin(robot, "skyfog"), name, "skyfog_interfaces/srv/Detect", 5, service(**changes))
