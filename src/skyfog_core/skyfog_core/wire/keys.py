"""Zenoh key expressions.

    skyfog/<fleet>/<service>/replica/<zone>/<replica>   a query here is a request to that replica
    skyfog/<fleet>/<service>/cancel/<zone>/<replica>    a put here withdraws a request by id
    skyfog/<fleet>/<service>/live/<zone>/<replica>/<announcement>   liveliness token: held while it takes requests
    skyfog/<fleet>/<service>/load/replica/<zone>/<replica>   a put here, once a second, is a replica's load
    skyfog/<fleet>/<service>/load/robot/<robot>         and a robot's demand, and what it saw of the answers

A ROS service name `/arm/detect` is the chunk `arm.detect`: ROS names hold no dot, so it can be undone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from skyfog_core.errors import ConfigError, WireError

ROOT = "skyfog"
_CHUNK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SERVICE = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


class ReplicaKey(NamedTuple):
    """Who a replica is within its service. Sorts by zone, then name."""

    zone: str
    replica: str

    def __str__(self) -> str:
        return f"{self.zone}/{self.replica}"


def chunk(kind: str, text: str) -> str:
    """`text` where it may stand as one chunk of a key. Raises ConfigError."""
    if not _CHUNK.fullmatch(text):
        raise ConfigError(f"{kind} {text!r}: letters, digits, '_', '-' and '.' only, and not empty")
    return text


def service_chunk(service: str) -> str:
    """A ROS service name as one chunk. Raises ConfigError for what is no ROS name."""
    if not _SERVICE.fullmatch(service):
        raise ConfigError(f"service {service!r}: not a ROS name such as /arm/detect")
    return service.strip("/").replace("/", ".")


class ServiceKeys:
    """The keys of one service of one fleet."""

    def __init__(self, fleet: str, service: str) -> None:
        self.prefix = f"{ROOT}/{chunk('fleet', fleet)}/{service_chunk(service)}"

    def query(self, who: ReplicaKey) -> str:
        return f"{self.prefix}/replica/{who}"

    def live(self, who: ReplicaKey, announcement: str) -> str:
        """`announcement`: see membership.to_chunk."""
        return f"{self.prefix}/live/{who}/{announcement}"

    def cancel(self, who: ReplicaKey) -> str:
        return f"{self.prefix}/cancel/{who}"

    def all_of(self, part: str) -> str:
        """The keys of all replicas below `replica`, `cancel` or `live`."""
        return f"{self.prefix}/{part}/**"

    def replica_load(self, who: ReplicaKey) -> str:
        """Where a replica tells its load."""
        return f"{self.prefix}/load/replica/{who}"

    def robot_load(self, robot: str) -> str:
        """Where a robot tells its demand. Raises ConfigError for a name that cannot stand in a key."""
        return f"{self.prefix}/load/robot/{chunk('robot', robot)}"

    @property
    def all_live(self) -> str:
        return f"{self.prefix}/live/*/*/*"


def all_of_fleet(fleet: str) -> str:
    """Every key of a fleet. Raises ConfigError."""
    return f"{ROOT}/{chunk('fleet', fleet)}/**"


def replica_key(zone: str, replica: str) -> ReplicaKey:
    """Raises ConfigError for a name that cannot stand in a key."""
    return ReplicaKey(chunk("zone", zone), chunk("replica", replica))


def parse_live(key: str) -> tuple[ReplicaKey, str]:
    """Who holds a liveliness token, and its announcement as a chunk. Raises WireError."""
    parts = key.split("/")
    if len(parts) != 7 or parts[0] != ROOT or parts[3] != "live" or not all(_CHUNK.fullmatch(part) for part in parts):
        raise WireError(f"{key!r} is not {ROOT}/<fleet>/<service>/live/<zone>/<replica>/<announcement>")
    return ReplicaKey(parts[4], parts[5]), parts[6]
