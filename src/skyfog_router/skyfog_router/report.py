"""What a robot tells of its services, as plain values: a RouterState without ROS."""

from __future__ import annotations

from dataclasses import dataclass

from skyfog_router.policy.snapshot import ServiceSnapshot


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose state it is."""

    robot: str
    fleet: str


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """One service of one robot."""

    origin: Origin
    service: str
    type: str
    stamp_ns: int  # ROS time of the robot
    snapshot: ServiceSnapshot
