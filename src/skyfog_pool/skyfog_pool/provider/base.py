"""What a cloud is to the pool. Calls block, within a limit of their own, and may be made from several threads.

ProviderError
├── LaunchRefused          certainly no machine: `fault` says why (capacity, quota, rejected)
├── CannotTell             it may have happened: look again, by the tag, before doing it anew
│   └── Unavailable            the provider failed, hung or throttled
└── Misconfigured          nothing will work until somebody mends it: credentials, an unknown zone, an extra missing
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from skyfog_core.errors import SkyfogError
from skyfog_pool.policy.market import LaunchFault, Market, NoticeKind, Prices, Zone


class ProviderError(SkyfogError):
    """A provider did not do what it was asked; the message names provider, zone and what is allowed."""


class LaunchRefused(ProviderError):
    """Certainly no machine came of it."""

    def __init__(self, fault: LaunchFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class CannotTell(ProviderError):
    """It may have happened."""


class Unavailable(CannotTell):
    """The provider failed, hung or throttled."""


class Misconfigured(ProviderError):
    """Nothing will work until somebody mends it."""


class Phase(StrEnum):
    """Of a machine, as its provider tells it."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    GONE = "gone"


class Ending(StrEnum):
    """Why a machine is gone."""

    NONE = ""
    PREEMPTED = "preempted"  # the market took it
    RETURNED = "returned"  # we gave it back
    FAILED = "failed"  # it ended by itself


@dataclass(frozen=True, slots=True)
class Order:
    """One machine, and what runs on it. `token` is drawn before the first try and makes the launch idempotent."""

    pool: str
    replica: int
    version: int
    token: str
    zone: str
    market: Market
    environment: Mapping[str, str] = field(default_factory=dict)  # SKYFOG_POOL, SKYFOG_REPLICA, SKYFOG_ZONE, … and envs


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine as its provider has it, with what its tags say. Tags are the truth of whose it is."""

    id: str
    pool: str
    replica: int
    version: int
    token: str
    zone: str
    market: Market
    phase: Phase
    ending: Ending = Ending.NONE
    endpoint: str = ""  # http://HOST:PORT of its runner, once it runs
    launched_unix_s: float = 0.0
    price_per_hour: float = 0.0
    notice: NoticeKind | None = None  # where the provider itself tells of one
    goes_unix_s: float | None = None  # when the machine goes then, where it tells that too


class Provider(Protocol):
    """One cloud. Made from a ServiceSpec by provider/table.py."""

    name: str

    def zones(self) -> list[Zone]:
        """Where the spec allows machines, and the provider has them. Raises Misconfigured, Unavailable."""
        ...

    def prices(self) -> Mapping[str, Prices]:
        """By zone, now. Raises Unavailable."""
        ...

    def launch(self, order: Order) -> Instance:
        """Get a machine; the same token, the same machine. Raises LaunchRefused, CannotTell, Misconfigured."""
        ...

    def instances(self, pool: str) -> list[Instance]:
        """Every machine with the pool's tag that is not gone, and those gone lately. Raises Unavailable."""
        ...

    def terminate(self, instance: str) -> None:
        """Give a machine back; one that is gone already is no error. Returns before it is gone. Raises Unavailable."""
        ...

    def logs(self, instance: str, lines: int) -> Iterator[str]:
        """The newest `lines` of what its replica printed."""
        ...

    def close(self) -> None:
        """Let go of sessions and threads; machines stay."""
        ...
