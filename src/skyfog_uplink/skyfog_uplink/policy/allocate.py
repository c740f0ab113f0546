"""Who may send what over the uplink: when a plan is made anew, and what keeps it from flapping.

    link state ----step, outage, its end----+
    scene ---------weights change-----------+--> share.py: one plan --> changes counted, what was lowered is held
    timer ---------every period_ms----------+

Down at once, up after a while: what no longer fits is lowered in the plan that finds it out, and is held then: it is
raised again only after `hold_ms`. So is everything after the start and after an outage: stalls come in crowds, and a
link that is not known yet is learnt by probes, which begin at once and miss nothing. Another scene lifts all holds.
Right after a change another must gain more than long after one.

Without a link state that can be planned with (none yet, an outage, NaN, nothing heard for STALE_NS) every service gets
its floor, and `because` says why; the timer goes on, so the next plan comes whatever happens. A clock that jumps ahead
lets the link state go stale; one that jumps back moves all times that were taken by it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from skyfog_core.config.uplink import AllocatorConfig
from skyfog_core.units import MS
from skyfog_uplink.policy.formulate import Formulation
from skyfog_uplink.policy.link import LinkState
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Grant, Plan
from skyfog_uplink.policy.scenes import Scenes
from skyfog_uplink.policy.share import Now, Shared, Sharer, risky

STALE_NS = 2_000 * MS  # a link state is no longer believed after so long
FLAP_NS = 5_000 * MS  # a change of a service back to where it was so shortly before is a flap
SETTLED = 0.1  # of switch_cost is always asked
RTT_STEP_MS = 10.0  # a smaller change of the round trip is no step


@dataclass(slots=True)
class Books:
    """What was decided, over all time."""

    plans: int = 0
    because: Counter[str] = field(default_factory=Counter)
    raised: Counter[str] = field(default_factory=Counter)  # by service
    lowered: Counter[str] = field(default_factory=Counter)
    flaps: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Running:
    """One service's option, and since when."""

    option: int = FLOOR
    before: int = FLOOR
    changed_ns: int | None = None
    moved_ns: int | None = None  # as changed_ns, but for changes that a scene or an outage forced
    lowered_ns: int | None = None


class Allocator:
    """Implements plan.Allocation for one table. Pure: time is what the caller says."""

    def __init__(self, table: Table, config: AllocatorConfig) -> None:
        self._table, self._config = table, config
        self._formulation = Formulation(table)
        self._sharer = Sharer(table, config)
        self._scenes = Scenes(table)
        self._running = [_Running() for _ in table.services]
        self._link: LinkState | None = None
        self._heard_ns = 0  # when the link state came
        self._planned: LinkState | None = None  # what the last plan was made from; None: floors
        self._last_ns: int | None = None
        self._plan: Plan | None = None
        self.books = Books()

    def on_link(self, link: LinkState, now_ns: int) -> Plan | None:
        """A plan where the link has stepped, gone or come back."""
        self._see(now_ns)
        self._link, self._heard_ns = link, now_ns
        because = self._stepped(link)
        return self._make(because, now_ns) if because else None

    def on_scene(self, scene: str, speed_mps: float, now_ns: int) -> Plan | None:
        """A plan where a service's weight has changed. A scene that the table does not have is ignored, and said."""
        self._see(now_ns)
        if not self._scenes.tell(scene, speed_mps):
            return None
        self._lift()
        return self._make("scene", now_ns)

    def on_timer(self, now_ns: int) -> Plan | None:
        """A plan each period."""
        self._see(now_ns)
        due_ns = self.next_timer_ns()
        return self._make("period", now_ns) if due_ns is None or now_ns >= due_ns else None

    def next_timer_ns(self) -> int | None:
        """None before anything has happened: the first event starts the clock."""
        return None if self._plan is None else self._plan.made_ns + self._config.period_ms * MS

    def check(self) -> None:
        """Raise if the books do not balance or the plan grants what there is not."""
        assert self.books.plans == self.books.because.total()
        for service, running in zip(self._table.services, self._running, strict=True):
            assert FLOOR <= running.option < len(service.options)
            ups, downs = self.books.raised[service.name], self.books.lowered[service.name]
            assert (running.changed_ns is None) == (ups + downs == 0)
            assert self.books.flaps[service.name] <= ups + downs
        if self._plan is not None:
            self._plan.check()
            assert [grant.option for grant in self._plan.grants] == [running.option for running in self._running]

    def _see(self, now_ns: int) -> None:
        """Where the clock has jumped back, so has everything that was timed by it."""
        if self._last_ns is not None and now_ns < self._last_ns:
            back_ns = self._last_ns - now_ns
            self._heard_ns -= back_ns
            for running in self._running:
                running.changed_ns = _earlier(running.changed_ns, back_ns)
                running.moved_ns = _earlier(running.moved_ns, back_ns)
                running.lowered_ns = _earlier(running.lowered_ns, back_ns)
            if self._plan is not None:
                self._plan = _moved(self._plan, back_ns)
        self._last_ns = now_ns

    def _stepped(self, link: LinkState) -> str:
        """Why a plan is wanted at once; empty: it is not."""
        if self._plan is None:
            return "start"
        usable = not self._unusable(link, self._heard_ns)
        before, now = self._planned, link
        if before is None:
            return "link back" if usable else ""
        if not usable:
            return "link gone"
        at = risky(self._config.risk) - 1
        if _differ(before.rates_bps[at], now.rates_bps[at], self._config.step):
            return "step of the rate"
        slower = abs(now.rtts_ms[-1] - before.rtts_ms[-1])
        return "step of the round trip" if slower > max(RTT_STEP_MS, self._config.step * before.rtts_ms[-1]) else ""

    def _unusable(self, link: LinkState | None, now_ns: int) -> str:
        """Why nothing can be planned with the link; empty: it can."""
        if link is None:
            return "nothing is known of the link"
        if not link.valid():
            return "the link's state makes no sense"
        if not link.up:
            return "outage"
        return "nothing is heard of the link" if now_ns - self._heard_ns > STALE_NS else ""

    def _make(self, because: str, now_ns: int) -> Plan:
        link, why = self._link, self._unusable(self._link, now_ns)
        self.books.plans += 1
        self.books.because[because] += 1
        if why or link is None:
            shared, self._planned = self._floors(why), None
            because += f"; {why}"
        else:
            if self._planned is None:  # a link that has just come, or come back, may as soon be gone again
                for running in self._running:
                    running.lowered_ns, running.moved_ns = now_ns, None
            shared, self._planned = self._share(link, now_ns), link
        if self._scenes.unknown:
            because += f"; scene {self._scenes.unknown!r} is not in the table, ignored"
        self._note(shared, now_ns)
        self._plan = Plan(self.books.plans, now_ns, shared.budget_bps, shared.grants, shared.utility, because)
        return self._plan

    def _share(self, link: LinkState, now_ns: int) -> Shared:
        hold_ns = self._config.hold_ms * MS
        return self._sharer.share(
            Now(
                link=link,
                needs=self._formulation.under(link.rtts_ms),
                weights=self._scenes.weights,
                current=tuple(running.option for running in self._running),
                held=tuple(r.lowered_ns is not None and now_ns - r.lowered_ns < hold_ns for r in self._running),
                moving=np.array([self._moving(running, now_ns) for running in self._running]),
            )
        )

    def _floors(self, why: str) -> Shared:
        """Safety never waits on the network."""
        worth = self._scenes.weights
        grants = tuple(
            Grant(service.name, utility=float(weight) * service.floor.accuracy, why=why)
            for service, weight in zip(self._table.services, worth, strict=True)
        )
        return Shared(0.0, grants, sum(grant.utility for grant in grants))

    def _note(self, shared: Shared, now_ns: int) -> None:
        for service, running, grant in zip(self._table.services, self._running, shared.grants, strict=True):
            if grant.option == running.option:
                continue
            lower = service.accuracy(grant.option) < service.accuracy(running.option)
            (self.books.lowered if lower else self.books.raised)[service.name] += 1
            lately = running.changed_ns is not None and now_ns - running.changed_ns < FLAP_NS
            if grant.option == running.before and lately:
                self.books.flaps[service.name] += 1
            running.before, running.option, running.changed_ns = running.option, grant.option, now_ns
            running.moved_ns = now_ns
            if lower:
                running.lowered_ns = now_ns

    def _moving(self, running: _Running, now_ns: int) -> float:
        """What a change must gain: much right after one, little where the service has run so for long."""
        if running.moved_ns is None:
            return SETTLED * self._config.switch_cost
        halvings = (now_ns - running.moved_ns) / (self._config.settle_ms * MS)
        return self._config.switch_cost * max(SETTLED, math.pow(0.5, halvings))

    def _lift(self) -> None:
        for running in self._running:
            running.lowered_ns = running.moved_ns = None


def _differ(before: float, now: float, share: float) -> bool:
    return abs(now - before) > share * max(before, math.ulp(0.0))


def _earlier(at_ns: int | None, by_ns: int) -> int | None:
    return None if at_ns is None else at_ns - by_ns


def _moved(plan: Plan, back_ns: int) -> Plan:
    return replace(plan, made_ns=plan.made_ns - back_ns)
