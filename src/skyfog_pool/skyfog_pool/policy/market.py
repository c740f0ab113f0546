"""What policies know of machines: zones, prices, and what has been seen of a market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skyfog_core.units import S

Market = Literal["spot", "on_demand"]
NoticeKind = Literal["interruption", "rebalance"]
# capacity: none to be had now; quota: not more for this account; rejected: the order itself is wrong; error: the
# provider failed, or did not answer.
LaunchFault = Literal["capacity", "quota", "rejected", "error"]


@dataclass(frozen=True, slots=True, order=True)
class Zone:
    """A failure domain in which one type of machine is offered. `name` is unique within a pool."""

    name: str  # us-west-2b; with the cloud in front where two clouds have the same name
    region: str = ""
    cloud: str = ""


@dataclass(frozen=True, slots=True)
class Prices:
    """USD an hour for one machine in one zone; infinite where that market is not offered."""

    spot: float
    on_demand: float

    def of(self, market: Market) -> float:
        return self.spot if market == "spot" else self.on_demand


@dataclass(frozen=True, slots=True)
class Notice:
    """The cloud's word that a spot machine is about to go, or is at risk of it."""

    kind: NoticeKind
    at_ns: int | None = None  # when the machine goes, steady time; None: not told

    @classmethod
    def of(cls, kind: NoticeKind, left_s: float | None, now_ns: int) -> Notice:
        """As it is told: with the time left."""
        return cls(kind, None if left_s is None else now_ns + round(max(0.0, left_s) * S))


# What a strategy is told, as it happens. A launch in a zone begins with Launched and ends in Started or LaunchFailed,
# or in Returned with lived_ns 0 where it was given up before; a machine that has started ends in Lost, or in Returned
# where we gave it back. A spot machine that was noticed ends in Lost, though we may have given it back just before.


@dataclass(frozen=True, slots=True)
class Launched:
    """A machine was asked for."""

    zone: str
    market: Market


@dataclass(frozen=True, slots=True)
class Started:
    """The machine runs."""

    zone: str
    market: Market
    took_ns: int


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The replica on it takes requests; `took_ns` since the launch: the cold start."""

    zone: str
    market: Market
    took_ns: int


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """No machine came."""

    zone: str
    market: Market
    why: LaunchFault


@dataclass(frozen=True, slots=True)
class Noticed:
    """A machine is about to go, or is at risk; `serves_ns`: how long its replica may go on taking requests."""

    zone: str
    kind: NoticeKind
    serves_ns: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """The market took a machine that had lived for `lived_ns`."""

    zone: str
    lived_ns: int
    noticed: bool


@dataclass(frozen=True, slots=True)
class Returned:
    """We gave a machine back after `lived_ns`: its lifetime is censored."""

    zone: str
    market: Market
    lived_ns: int


@dataclass(frozen=True, slots=True)
class Priced:
    """Prices changed, or are told for the first time."""

    zone: str
    prices: Prices


MarketEvent = Launched | Started | BecameReady | LaunchFailed | Noticed | Lost | Returned | Priced
