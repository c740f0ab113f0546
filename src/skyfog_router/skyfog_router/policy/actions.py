"""What the robot's policy wants done, and what it is told of a reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from skyfog_core.errors import RequestError
from skyfog_core.ids import RequestId
from skyfog_core.wire.keys import ReplicaKey

# first: the first copy; copy: beside the first at once; hedge: later, since no answer came; retry: after an error;
# probe: a second copy to a replica on trial; rescue: beyond the extra-load budget, since the request would miss
# otherwise; local: the fallback on the robot.
Why = Literal["first", "copy", "hedge", "retry", "probe", "rescue", "local"]


@dataclass(frozen=True, slots=True)
class Send:
    """Ask `replica`; `budget_ms` is the time left, at least 1."""

    request_id: RequestId
    replica: ReplicaKey
    attempt: int
    budget_ms: int
    why: Why = "first"


@dataclass(frozen=True, slots=True)
class Cancel:
    """Withdraw the request from a replica whose answer is no longer wanted."""

    request_id: RequestId
    replica: ReplicaKey


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give `response` to the caller."""

    request_id: RequestId
    replica: ReplicaKey
    response: Any
    took_ns: int
    local: bool = False
    asked: int = 1
    service_ns: int = 0  # of that in the service itself, as the replica tells


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell the caller that there is no result, and why."""

    request_id: RequestId
    error: RequestError
    took_ns: int


@dataclass(frozen=True, slots=True)
class Eject:
    """For the log and the metrics: `replica` is asked for nothing during `for_ns`."""

    replica: ReplicaKey
    for_ns: int
    why: str


@dataclass(frozen=True, slots=True)
class Readmit:
    """For the log and the metrics: `replica` is asked as any other again."""

    replica: ReplicaKey


Action = Send | Cancel | Deliver | Fail | Eject | Readmit


@dataclass(frozen=True, slots=True)
class Load:
    """What a reply's header tells of the replica. Zeros where it told nothing."""

    service_ns: int = 0
    queue_ns: int = 0  # how long this request waited at the replica
    queue_depth: int = 0
    running: int = 0
    retry_after_ns: int = 0


NO_LOAD = Load()
