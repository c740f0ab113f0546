"""What travels beside the untouched ROS payload, in the attachment of a zenoh query or reply.

Both are msgpack arrays whose first item is the version. A reader refuses a later version and accepts unknown
trailing fields of its own version never: a new field is a new version.

Version 2 says which robot asks (fairness), how the payload is encoded, and what a reply tells about the replica's
load. Version 1 is refused by name.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from skyfog_core.errors import Status
from skyfog_core.ids import REQUEST_ID_BYTES

VERSION = 2
TYPE_HASH_BYTES = 32
MAX_ROBOT_CHARS = 200


class Encoding(IntEnum):
    """What stands between the CDR and the link."""

    PLAIN = 0
    ZSTD = 1


ENCODING = {"none": Encoding.PLAIN, "zstd": Encoding.ZSTD}  # by its name in a config


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Sent beside a request."""

    version: int
    request_id: bytes  # 16 bytes, made by the robot
    attempt: int  # 0 for the first send of this request to anyone
    budget_ms: int  # time left when sent; the peer's clock is not ours
    type_hash: bytes  # 32 bytes, RIHS01 of the service type
    priority: int = 0  # higher goes first
    robot: str = ""  # who asks; requests of one robot share its turn
    encoding: Encoding = Encoding.PLAIN  # of the payload beside this
    accepts: Encoding = Encoding.PLAIN  # what the reply's payload may be encoded in, besides PLAIN

    def __post_init__(self) -> None:
        if len(self.request_id) != REQUEST_ID_BYTES:
            raise ValueError(f"request_id has {len(self.request_id)} bytes, not {REQUEST_ID_BYTES}")
        if len(self.type_hash) != TYPE_HASH_BYTES:
            raise ValueError(f"type_hash has {len(self.type_hash)} bytes, not {TYPE_HASH_BYTES}")
        if self.budget_ms < 0 or self.attempt < 0:
            raise ValueError(f"budget_ms {self.budget_ms} and attempt {self.attempt} must not be negative")
        if len(self.robot) > MAX_ROBOT_CHARS:
            raise ValueError(f"robot has {len(self.robot)} characters, more than {MAX_ROBOT_CHARS}")


class ReplyHeader(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Sent beside a reply. The payload is the response where `status` is OK, else empty."""

    version: int
    request_id: bytes
    status: Status
    service_us: int  # time in the service itself, queueing not included
    queue_depth: int  # requests waiting at the replica when it answered
    message: str = ""  # why not, where status is not OK
    queue_us: int = 0  # how long this request waited there before it ran
    running: int = 0  # requests running at the replica when it answered, this one not counted
    retry_after_ms: int = 0  # overload push-back: ask this replica for nothing before; 0: no such wish
    encoding: Encoding = Encoding.PLAIN  # of the payload beside this

    def __post_init__(self) -> None:
        if min(self.service_us, self.queue_depth, self.queue_us, self.running, self.retry_after_ms) < 0:
            raise ValueError("times and counts must not be negative")


def refusal(
    request_id: bytes, status: Status, message: str, queue_depth: int = 0, retry_after_ms: int = 0
) -> ReplyHeader:
    """A reply without a result."""
    return ReplyHeader(VERSION, request_id, status, 0, queue_depth, message, retry_after_ms=retry_after_ms)
