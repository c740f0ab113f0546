"""What the allocator is measured against: what one would do without it. Each implements plan.Allocation.

    OnCar       every service on the car's own model
    OneModel    every service on the same rung: the option that is the n-th dearest of its own
    EqualSplit  every service has B/n, and the best option that this affords

The last two trust the median of the link's rate and take an option's critical bandwidth from means, as one does who
has no distributions. They plan each period, whatever the link does in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from skyfog_core.units import MS
from skyfog_uplink.policy.link import LEVELS, LinkState
from skyfog_uplink.policy.model import FLOOR, Service, Table
from skyfog_uplink.policy.plan import Grant, Plan
from skyfog_uplink.policy.scenes import Scenes

Floats = NDArray[np.float64]

PERIOD_MS = 500  # as TURBO's
MEDIAN = LEVELS.index(0.5)


def critical_bps(service: Service, option: int, rtt_ms: float) -> float:
    """TURBO's b_c = S/(SLO - RTT - exec), with means; inf where there is no time for the link."""
    chosen = service.options[option]
    left_ms = service.slo_ms - rtt_ms - chosen.exec_ms.mean - chosen.pre_ms.mean
    return 8e3 * chosen.bytes.mean / left_ms if left_ms > 0 else math.inf


# (critical rates [services][options] in bit/s, weights [services], budget in bit/s) to one (option, rate in bit/s) a
# service, (FLOOR, 0) for the floor.
Rule = Callable[[list[list[float]], Floats, float], list[tuple[int, float]]]


class Periodic:
    """Applies a rule to the last estimate of the link, every period."""

    def __init__(self, table: Table, rule: Rule, period_ms: int = PERIOD_MS) -> None:
        self._table, self._rule, self._period_ns = table, rule, period_ms * MS
        self._scenes = Scenes(table)
        self._link: LinkState | None = None
        self._plan: Plan | None = None

    def on_link(self, link: LinkState, now_ns: int) -> Plan | None:
        self._link = link
        return self._make(now_ns) if self._plan is None else None

    def on_scene(self, scene: str, speed_mps: float, now_ns: int) -> Plan | None:
        self._scenes.tell(scene, speed_mps)
        return None

    def on_timer(self, now_ns: int) -> Plan | None:
        due_ns = self.next_timer_ns()
        return self._make(now_ns) if due_ns is None or now_ns >= due_ns else None

    def next_timer_ns(self) -> int | None:
        return None if self._plan is None else self._plan.made_ns + self._period_ns

    def check(self) -> None:
        if self._plan is not None:
            self._plan.check()

    def _make(self, now_ns: int) -> Plan:
        link, weights = self._link, self._scenes.weights
        budget, chosen = 0.0, [(FLOOR, 0.0)] * len(self._table.services)
        if link is not None and link.up and link.valid():
            budget = link.rates_bps[MEDIAN]
            critical = [
                [critical_bps(service, option, link.rtt_ms) for option in range(len(service.options))]
                for service in self._table.services
            ]
            chosen = self._rule(critical, weights, budget)
        grants = tuple(
            Grant(service.name, option, rate, utility=float(weight) * service.accuracy(option))
            for service, weight, (option, rate) in zip(self._table.services, weights, chosen, strict=True)
        )
        number = 1 if self._plan is None else self._plan.number + 1
        self._plan = Plan(number, now_ns, budget, grants, sum(grant.utility for grant in grants), "period")
        return self._plan


def on_car(table: Table) -> Periodic:
    """No cloud."""
    return Periodic(table, lambda critical, _weights, _budget: [(FLOOR, 0.0)] * len(critical))


def one_model(table: Table) -> Periodic:
    """One cloud model for all: the highest rung that all services can be on at once, else none."""

    def rule(critical: list[list[float]], _weights: Floats, budget_bps: float) -> list[tuple[int, float]]:
        rungs = [_rungs(service, needed) for service, needed in zip(table.services, critical, strict=True)]
        for rung in range(max(map(len, rungs), default=0), 0, -1):
            on = [each[min(rung, len(each)) - 1] if each else (FLOOR, 0.0) for each in rungs]
            if sum(rate for _, rate in on) <= budget_bps:
                return on
        return [(FLOOR, 0.0)] * len(critical)

    return Periodic(table, rule)


def equal_split(table: Table) -> Periodic:
    """B/n each."""

    def rule(critical: list[list[float]], _weights: Floats, budget_bps: float) -> list[tuple[int, float]]:
        part = budget_bps / len(critical)
        found = []
        for service, needed in zip(table.services, critical, strict=True):
            fits = [option for option, rate in _rungs(service, needed) if rate <= part]
            found.append((fits[-1], part) if fits else (FLOOR, 0.0))
        return found

    return Periodic(table, rule)


def _rungs(service: Service, critical: list[float]) -> list[tuple[int, float]]:
    """(option, rate) that are worth it: each better and dearer than the one before, the first better than the floor."""
    kept: list[tuple[int, float]] = []
    best = service.floor.accuracy
    for option in sorted(range(len(critical)), key=lambda option: (critical[option], -service.accuracy(option))):
        if math.isfinite(critical[option]) and service.accuracy(option) > best:
            kept.append((option, critical[option]))
            best = service.accuracy(option)
    return kept
