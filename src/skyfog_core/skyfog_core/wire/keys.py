"""Zenoh key expressions.

    skyfog/<fleet>/<service>/replica/<zone>/<replica>   a query here is a request to that replica
    skyfog/<fleet>/<service>/cancel/<zone>/<replica>    a put here withdraws a request by id
    skyfog/<fleet>/<service>/live/<zone>/<replica>/<announcement>   liveliness token: held while it takes requests
    skyfog/<fleet>/<service>/load/replica/<zone>/<replica>   a put here, once a second, is a replica's load
    skyfog/<fleet>/<service>/load/robot/<robot>         and a robot's demand, and what it saw of the answers
    skyfog/<fleet>/car-uplink/up/<gateway>/<car>        puts of a car for its gateway: wire/uplink.py
    skyfog/<fleet>/car-uplink/down/<car>/<gateway>      and back
    skyfog/<fleet>/car-uplink/live/<gateway>            liveliness token: held while it takes frames

No ROS name holds a dash either, so that no service is ever called `car-uplink`.
A ROS service name `/arm/detect` is the chunk `arm.detect`: ROS names hold no dot, so it can be undone. A robot may have
any name; one that cannot stand in a key is told apart by its hash.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from skyfog_core.errors import ConfigError, WireError

ROOT = "skyfog"
UPLINK = "car-uplink"
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


def robot_chunk(robot: str) -> str:
    """A robot's name as one chunk: itself where it may stand there, else what of it may, and its hash."""
    if _CHUNK.fullmatch(robot):
        return robot
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", robot).lstrip(".-")
    return f"{readable or '_'}-{hashlib.blake2b(robot.encode(), digest_size=6).hexdigest()}"


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
        """Where a robot tells its demand, and what it saw of the answers; see robot_chunk."""
        return f"{self.prefix}/load/robot/{robot_chunk(robot)}"

    @property
    def all_loads(self) -> tuple[str, str]:
        """The keys of all replicas' load, and of all robots': apart, as access control has them."""
        return f"{self.prefix}/load/replica/*/*", f"{self.prefix}/load/robot/*"

    @property
    def all_live(self) -> str:
        return f"{self.prefix}/live/*/*/*"


class UplinkKeys:
    """The keys of one fleet's cars and gateways. Each method raises ConfigError for names that make no key."""

    def __init__(self, fleet: str) -> None:
        self.prefix = f"{ROOT}/{chunk('fleet', fleet)}/{UPLINK}"

    def up(self, gateway: str, car: str) -> str:
        return f"{self.prefix}/up/{chunk('gateway', gateway)}/{chunk('car', car)}"

    def all_up(self, gateway: str) -> str:
        """Of all cars to one gateway."""
        return f"{self.prefix}/up/{chunk('gateway', gateway)}/*"

    def down(self, car: str, gateway: str) -> str:
        return f"{self.prefix}/down/{chunk('car', car)}/{chunk('gateway', gateway)}"

    def all_down(self, car: str) -> str:
        """Of all gateways to one car."""
        return f"{self.prefix}/down/{chunk('car', car)}/*"

    def live(self, gateway: str) -> str:
        return f"{self.prefix}/live/{chunk('gateway', gateway)}"

    @property
    def all_live(self) -> str:
        return f"{self.prefix}/live/*"

    def all_of(self, part: str) -> str:
        """The keys of all cars and gateways below `up`, `down` or `live`."""
        return f"{self.prefix}/{part}/**"


def last_chunk(key: str) -> str:
    """Who says something: the car of an `up` key, the gateway of a `down` or `live` one. Raises WireError."""
    name = key.rpartition("/")[2]
    if not _CHUNK.fullmatch(name):
        raise WireError(f"{key!r} does not end in a name")
    return name


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


def parse_load(key: str) -> ReplicaKey | str:
    """The replica, or the robot, whose load is put at a key. Raises WireError."""
    parts = key.split("/")
    if len(parts) > 5 and parts[0] == ROOT and parts[3] == "load" and all(_CHUNK.fullmatch(part) for part in parts):
        if parts[4] == "robot" and len(parts) == 6:
            return parts[5]
        if parts[4] == "replica" and len(parts) == 7:
            return ReplicaKey(parts[5], parts[6])
    raise WireError(f"{key!r} is not {ROOT}/<fleet>/<service>/load/replica/<zone>/<replica> or …/load/robot/<robot>")
