"""Who may send what: one grant a service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from skyfog_uplink.policy.link import LinkState
from skyfog_uplink.policy.model import FLOOR


@dataclass(frozen=True, slots=True)
class Grant:
    """One service's part of a plan.

    `probe` is the option that would be wanted next if the link were faster, at `probe_bps` of what is left over: frames
    are sent in it beside the planned one, behind everything else, and never count as missed.
    """

    service: str
    option: int = FLOOR
    rate_bps: float = 0.0  # of its token bucket
    on_time: float = 1.0  # probability that a frame is, under what was known of the link
    utility: float = 0.0  # expected: weight times accuracy, a late answer being the floor's
    probe: int = FLOOR
    probe_bps: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All services' grants, in the table's order."""

    number: int  # grows
    made_ns: int
    budget_bps: float  # that the sum of the rates keeps to
    grants: tuple[Grant, ...]
    utility: float
    because: str = ""  # what it was made for: period, step, scene, outage, start

    def check(self) -> None:
        """Raise if more is granted than there is, or a floor has a rate."""
        assert sum(grant.rate_bps for grant in self.grants) <= self.budget_bps * (1 + 1e-9) + 1e-6
        assert all((grant.option == FLOOR) <= (grant.rate_bps == 0) for grant in self.grants)


class Allocation(Protocol):
    """An allocator as shaper, nodes and simulation see it. Pure; every method may return a new plan."""

    def on_link(self, link: LinkState, now_ns: int) -> Plan | None: ...
    def on_scene(self, scene: str, speed_mps: float, now_ns: int) -> Plan | None: ...
    def on_timer(self, now_ns: int) -> Plan | None: ...
    def next_timer_ns(self) -> int | None: ...
    def check(self) -> None: ...
