"""Errors, by what the caller may do about them.

SkyfogError
├── RequestError               a request has no result
│   ├── NotExecuted                certainly did not run: sending it elsewhere is safe
│   │   ├── NoReplica                  nobody was there to ask
│   │   ├── Overloaded                 a bounded queue is full
│   │   └── TypeMismatch               the two ends disagree on the service type
│   ├── OutcomeUnknown             may have run: send again only what is idempotent
│   │   ├── DeadlineExceeded           no valid reply in time
│   │   ├── InvalidReply               a replica answered bytes that are no reply
│   │   ├── LinkLost                   the query ended without an answer
│   │   └── NoQuorum                   too few answers agree
│   ├── InvalidRequest             the request itself is at fault
│   └── ServiceFailed              it ran, and the service says that it failed
├── WireError                  bytes from the link cannot be read
│   └── UnsupportedVersion         … because a later Skyfog wrote them
└── ConfigError                files or parameters are wrong: names file, key and allowed values
"""

from __future__ import annotations

import re
from enum import IntEnum


class Status(IntEnum):
    """What became of a request, on the wire and in every Skyfog response (skyfog_interfaces/msg/Status)."""

    OK = 0
    NOT_EXECUTED = 1
    OUTCOME_UNKNOWN = 2
    DEADLINE_EXCEEDED = 3
    INVALID_REQUEST = 4
    FAILED = 5


class SkyfogError(Exception):
    """Root of every error that Skyfog raises on purpose."""


class ConfigError(SkyfogError):
    """A file or a parameter is wrong; the message names file, key and what is allowed."""


class WireError(SkyfogError):
    """Bytes from the link cannot be read."""


class UnsupportedVersion(WireError):
    """The bytes were written by a later version of Skyfog."""


class RequestError(SkyfogError):
    """A request has no result; `status` says what may be done about it."""

    status = Status.OUTCOME_UNKNOWN


class NotExecuted(RequestError):
    """Certainly did not run: sending it elsewhere is safe."""

    status = Status.NOT_EXECUTED


class NoReplica(NotExecuted):
    """Nobody was there to ask."""


class Overloaded(NotExecuted):
    """A bounded queue is full."""


class TypeMismatch(NotExecuted):
    """The two ends disagree on the service type."""


class OutcomeUnknown(RequestError):
    """May have run: send again only what is idempotent."""


class DeadlineExceeded(OutcomeUnknown):
    """No valid reply within the deadline."""

    status = Status.DEADLINE_EXCEEDED


class InvalidReply(OutcomeUnknown):
    """A replica answered bytes that are no reply."""


class LinkLost(OutcomeUnknown):
    """The query ended without an answer: the replica died, or the link to it did."""


class NoQuorum(OutcomeUnknown):
    """Answers came, but too few of them agree."""


class InvalidRequest(RequestError):
    """The request itself is at fault: sending it again cannot help."""

    status = Status.INVALID_REQUEST


class ServiceFailed(RequestError):
    """It ran, and the service says that it failed."""

    status = Status.FAILED


ERROR_OF_STATUS: dict[Status, type[RequestError]] = {
    Status.NOT_EXECUTED: NotExecuted,
    Status.OUTCOME_UNKNOWN: OutcomeUnknown,
    Status.DEADLINE_EXCEEDED: DeadlineExceeded,
    Status.INVALID_REQUEST: InvalidRequest,
    Status.FAILED: ServiceFailed,
}


def plain_reason(error: BaseException) -> str:
    """A library's message in one line, without the places in its source that some append (` at /build/x.rs:61`)."""
    return re.sub(r",? at /\S+?:\d+\.?", "", " ".join(str(error).split()))
