"""What goes between a car and its gateway.

A message is a msgpack array whose first item is the version and whose second the kind, with the bytes of a chunk or an
answer beside it (in zenoh: the payload; the array is the attachment). Frames travel in chunks, so that control is
never behind a whole image, and so that each chunk's acknowledgement says how the link is. The gateway's clock is not
the car's: only differences of `received_us` mean anything. Budgets travel as time left.

    car -> gateway    Chunk  Ping  Withdraw
    gateway -> car    Ack    Answer
"""

from __future__ import annotations

from typing import Any

import msgspec

from skyfog_core.errors import Status, UnsupportedVersion, WireError
from skyfog_core.wire.envelope import TYPE_HASH_BYTES

VERSION = 1
MAX_HEADER_BYTES = 4_096


class _Message(msgspec.Struct, frozen=True, array_like=True, tag_field="kind", forbid_unknown_fields=True):
    """Common to all kinds."""


class Chunk(_Message, frozen=True, tag=1, kw_only=True):
    """Bytes `offset` to `offset + len(payload)` of a frame of `total` bytes. Its first chunk names the service."""

    seq: int  # of every message of this car that is to be acknowledged; grows by one
    frame: int  # grows with each frame of this car, over all services and restarts
    offset: int
    total: int
    budget_ms: int  # from its arrival, had it met no queue, until the answer must leave the gateway
    service: str = ""  # in the first chunk: the ROS service asked
    type_hash: bytes = b""  # in the first chunk: RIHS01 of its type

    def __post_init__(self) -> None:
        if min(self.seq, self.frame, self.offset, self.budget_ms) < 0 or not self.offset < self.total:
            raise ValueError(f"chunk at {self.offset} of {self.total}: numbers out of range")
        if self.offset == 0 and (not self.service or len(self.type_hash) != TYPE_HASH_BYTES):
            raise ValueError("a frame's first chunk names its service and the hash of its type")


class Ping(_Message, frozen=True, tag=2, kw_only=True):
    """Asks for an acknowledgement."""

    seq: int


class Withdraw(_Message, frozen=True, tag=3, kw_only=True):
    """Nobody wants this frame any more."""

    frame: int


class Ack(_Message, frozen=True, tag=4, kw_only=True):
    """`seq` came, at `received_us` of the gateway's own clock."""

    seq: int
    received_us: int


class Answer(_Message, frozen=True, tag=5, kw_only=True):
    """What became of a frame. The payload beside it is the response (CDR) where `status` is OK, else empty."""

    frame: int
    status: Status
    cloud_us: int  # from the frame's last byte in to this answer out
    service_us: int = 0  # of that in the service itself
    replica: str = ""
    message: str = ""


Upward = Chunk | Ping | Withdraw
Downward = Ack | Answer
_encoder = msgspec.msgpack.Encoder()
_upward = msgspec.msgpack.Decoder(tuple[int, Upward])
_downward = msgspec.msgpack.Decoder(tuple[int, Downward])
_version = msgspec.msgpack.Decoder(tuple[int, Any])


def encode(message: Upward | Downward) -> bytes:
    """[version, message] as msgpack."""
    return _encoder.encode((VERSION, message))


def decode_upward(data: bytes) -> Upward:
    """Raises WireError, UnsupportedVersion."""
    found: Upward = _decode(_upward, data)
    return found


def decode_downward(data: bytes) -> Downward:
    """Raises WireError, UnsupportedVersion."""
    found: Downward = _decode(_downward, data)
    return found


def _decode(decoder: msgspec.msgpack.Decoder[tuple[int, Any]], data: bytes) -> Any:
    if len(data) > MAX_HEADER_BYTES:
        raise WireError(f"an uplink header of {len(data)} bytes; at most {MAX_HEADER_BYTES}")
    try:
        version, message = decoder.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        _refuse_version(data)
        raise WireError(f"no uplink message: {error}") from None
    if version != VERSION:
        raise UnsupportedVersion(f"uplink message of version {version}; this Skyfog speaks {VERSION}")
    return message


def _refuse_version(data: bytes) -> None:
    try:
        version, _ = _version.decode(data)
    except msgspec.DecodeError:
        return
    if version != VERSION:
        raise UnsupportedVersion(f"uplink message of version {version}; this Skyfog speaks {VERSION}")
