"""What a Keeper works with: the effects that it wants, a live replica's affairs, and what it is given of the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from skyfog_core.config.pool import ReadinessProbe
from skyfog_core.trace import NoTrace, Trace
from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.view import Replica
from skyfog_pool.provider.base import Order
from skyfog_pool.readiness import Readiness
from skyfog_pool.reconcile import Known
from skyfog_pool.store import Row, Stamp

TRUST_NS = 15 * S  # after a restart, for probes and tokens of replicas that were READY to be heard

# Effects: what the controller carries out.


@dataclass(frozen=True, slots=True)
class Ask:
    """Launch. Answered by on_launched, on_launch_refused or on_launch_unknown."""

    replica: int
    order: Order


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Terminate a machine. Answered by on_given_back. Without a replica it is a leak."""

    replica: int | None
    instance: str


@dataclass(frozen=True, slots=True)
class TellDrain:
    """POST /drain. Not answered: the replica's runner tells, or the policy's limit passes."""

    replica: int
    endpoint: str
    within_s: float


Effect = Ask | GiveBack | TellDrain


@dataclass(slots=True)
class Work:
    """A live replica: its row, its entry in the policy's books, and what this controller does about it now."""

    row: Row
    who: Replica
    asked_ns: int
    changed_ns: int
    asking: bool = False
    returning: bool = False
    tries: int = 0
    not_before_ns: int = 0
    gone: bool = False  # its machine is, for certain
    readiness: Readiness | None = None
    seen_state: State | None = None  # as the row has it

    def watch(self, probe: ReadinessProbe, now_ns: int, needs_token: bool) -> None:
        """Its machine runs, and is probed from now on."""
        began_ns = now_ns if self.who.started_ns is None else self.who.started_ns
        self.readiness = Readiness(
            probe, began_ns, now_ns, state=self.who.state, needs_token=needs_token, grace_ns=TRUST_NS
        )

    @property
    def known(self) -> Known:
        """As reconcile takes it."""
        row = self.row
        return Known(
            row.id,
            row.token,
            row.market,
            self.who.state,
            row.instance,
            self.asked_ns,
            self.changed_ns,
            self.asking,
        )


@dataclass(frozen=True, slots=True)
class Outside:
    """What a Keeper is given of the world."""

    unix_s: Callable[[], float]
    stamp: Callable[[int], Stamp]  # of a moment of the steady clock
    token: Callable[[], str]
    trace: Trace = field(default_factory=NoTrace)
