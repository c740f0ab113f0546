"""What replicas and robots say of a service's load, once a second: puts below `load/` (see wire/keys.py).

Counters only grow while a process lives, so that a lost report loses nothing: a reader takes differences, and starts
anew where `boot` changes. Fields are only ever added.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from skyfog_core.errors import WireError

VERSION = 1
MAX_BYTES = 65_536
MOST_LATENCIES = 256
MOST_REPLICAS = 256


class ReplicaLoad(msgspec.Struct, frozen=True, array_like=True):
    """What a replica has done since its start, and has now."""

    version: int = VERSION
    boot: int = 0  # as in its announcement
    received: int = 0  # requests, copies and repeats among them
    finished: int = 0
    failed: int = 0
    refused: int = 0
    busy_us: int = 0  # sum of the service times of finished requests
    queued: int = 0  # waiting now
    running: int = 0  # now
    draining: bool = False


class RobotLoad(msgspec.Struct, frozen=True, array_like=True):
    """What a robot's proxy has asked for since its start, and what came of it."""

    version: int = VERSION
    boot: int = 0  # drawn at the process's start
    requests: int = 0  # by clients, each counted once however many copies were sent
    failed: int = 0  # without a result
    over_slo: int = 0  # with a result later than slo_ms
    slo_ms: int = 0  # in force at the robot, as set or as learnt; 0: none
    latency_us: tuple[int, ...] = ()  # of the newest answered requests, oldest first; at most MOST_LATENCIES
    replicas: dict[str, int] = {}  # `zone/replica`: median of its newest answers, us; at most MOST_REPLICAS
    answered: int = 0  # with a result: so a reader knows how many of latency_us are new


Load = ReplicaLoad | RobotLoad
_T = TypeVar("_T", ReplicaLoad, RobotLoad)
_encoder = msgspec.msgpack.Encoder()
_replica_decoder = msgspec.msgpack.Decoder(ReplicaLoad)
_robot_decoder = msgspec.msgpack.Decoder(RobotLoad)


def encode(load: Load) -> bytes:
    """Msgpack."""
    return _encoder.encode(load)


def decode_replica(data: bytes) -> ReplicaLoad:
    """Raises WireError."""
    return _decode(_replica_decoder, data)


def decode_robot(data: bytes) -> RobotLoad:
    """Raises WireError."""
    return _decode(_robot_decoder, data)


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes) -> _T:
    if len(data) > MAX_BYTES:
        raise WireError(f"a load report of {len(data)} bytes; at most {MAX_BYTES}")
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise WireError(f"no load report: {error}") from None
