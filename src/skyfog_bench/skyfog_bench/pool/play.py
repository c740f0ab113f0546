"""Every policy on one market: the same cold start, notices, target and requests for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from skyfog_bench.pool.markets import Course
from skyfog_bench.pool.omniscient import Optimum, omniscient
from skyfog_bench.pool.skypilot import SkyPilotPool
from skyfog_core.config.pool import PlacerName, ReplicaPolicyConfig
from skyfog_sim.machines import PROVISION, WARM_UP, MachineModel
from skyfog_sim.pool_replay import PoolReplay, PoolResult, PoolScenario, replay
from skyfog_sim.requests import Arrivals, Demand, Latencies, Pattern, arrivals, flow

OURS, PUBLISHED, SKYPILOT = "skyfog", "spothedge", "SkyPilot 0.14's own"
DRAIN_S = 10.0  # what is not finished by then is handed back and asked elsewhere: it counts in the latencies
OURS_SERVES, PUBLISHED_SERVES = f"{OURS}, serves on", f"{PUBLISHED}, serves on"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A policy and its settings. `placer` None: SkyPilot's own classes."""

    name: str
    placer: PlacerName | None
    over: int | None = None  # num_overprovision
    on_notice: Literal["drain", "serve"] = "drain"


# One extra replica is what SkyPilot's documentation of SpotHedge shows (docs.skypilot.co, "Using Spot Instances for
# Serving"); two, as a user who wants it safer would set. Ours chooses for itself. What a replica does on a notice is of
# the pool and no placement's part (SpotHedge as published knows no notices): both are played with either choice, and
# each is compared with its like.
CONTESTANTS = (
    Contestant("on demand only", "on_demand", 0),
    Contestant("even spread", "even_spread", 0),
    Contestant("round robin", "round_robin", 0),
    Contestant("ASG-like mix", "asg", 0),
    Contestant(PUBLISHED, "spothedge", 1),
    Contestant(PUBLISHED_SERVES, "spothedge", 1, "serve"),
    Contestant("spothedge, 2 extra", "spothedge", 2),
    Contestant("dynamic_fallback", "dynamic_fallback", 1),
    Contestant(SKYPILOT, None, 1),
    Contestant(OURS, "skyfog"),
    Contestant(OURS_SERVES, "skyfog", on_notice="serve"),
)


@dataclass(frozen=True)
class Played:
    """One policy on one market, once a seed; each seed has other victims in a zone and other requests."""

    course: Course
    who: Contestant
    results: Sequence[PoolResult]
    latencies: dict[Pattern, list[Latencies]]
    wall_s: float  # of one replay, with its requests of one pattern

    @property
    def at_target(self) -> float:
        return fmean(result.at_target for result in self.results)

    @property
    def usd(self) -> float:
        return fmean(result.usd for result in self.results)

    @property
    def relative_cost(self) -> float:
        """To on demand only."""
        return fmean(result.relative_cost for result in self.results)


@dataclass(frozen=True)
class Table:
    """All policies on one market."""

    course: Course
    optimum: Optimum
    on_demand_usd: float
    played: Sequence[Played]

    def of(self, name: str) -> Played | None:
        """None where that policy could not run."""
        return next((one for one in self.played if one.who.name == name), None)


def play(
    course: Course,
    seeds: Sequence[int],
    patterns: Sequence[Pattern],
    skypilot: Path | None,
    say: Callable[[str], None],
    machines: MachineModel,
) -> Table:
    """Replay all policies. `skypilot`: the Python of its environment, or None where that is not installed."""
    scenario = PoolScenario(course.market, machines=machines)
    optimum = omniscient(
        course.market,
        course.target,
        provision_ns=PROVISION.ns,
        warm_up_ns=WARM_UP.ns,
        grace_ns=scenario.grace_ns,
    )
    requests = {(pattern, seed): _requests(course, pattern, seed) for pattern in patterns for seed in seeds}
    played = []
    for who in CONTESTANTS:
        if who.placer is None and skypilot is None:
            continue
        one = _played(course, who, scenario, seeds, patterns, requests, skypilot)
        say(
            f"{course.name}, {who.name}: {100 * one.at_target:.2f} % at target for {one.relative_cost:.3f} of on demand"
        )
        played.append(one)
    return Table(course, optimum, played[0].results[0].on_demand_usd, played)


def _requests(course: Course, pattern: Pattern, seed: int) -> Arrivals:
    """Of a rate that loads the target's replicas as the defaults load four."""
    rate = Demand().rate / 4 * course.target
    return arrivals(replace(Demand(pattern), rate=rate), course.market.length_ns, seed)


def _played(
    course: Course,
    who: Contestant,
    scenario: PoolScenario,
    seeds: Sequence[int],
    patterns: Sequence[Pattern],
    requests: dict[tuple[Pattern, int], Arrivals],
    skypilot: Path | None,
) -> Played:
    results, walls = [], []
    latencies: dict[Pattern, list[Latencies]] = {pattern: [] for pattern in patterns}
    for seed in seeds:
        started = time.monotonic()
        result = _run(course, who, scenario, seed, skypilot)
        for number, pattern in enumerate(patterns):
            latencies[pattern].append(flow(requests[pattern, seed], result.served, scenario.grace_ns))
            if number == 0:
                walls.append(time.monotonic() - started)
        results.append(result)
    return Played(course, who, results, latencies, min(walls))


def _run(course: Course, who: Contestant, scenario: PoolScenario, seed: int, skypilot: Path | None) -> PoolResult:
    if who.placer is not None:
        config = ReplicaPolicyConfig(
            min_replicas=course.target,
            num_overprovision=who.over,
            spot_placer=who.placer,
            on_notice=who.on_notice,
            drain_seconds=DRAIN_S,
        )
        return replay(who.placer, replace(scenario, config=config), seed)
    assert skypilot is not None
    # It hears no notices, and what serves there goes on to the end.
    scenario = replace(scenario, machines=replace(scenario.machines, notice_share=0.0))
    prices = {zone.zone.name: (zone.zone.region, zone.prices_at(0)) for zone in course.market.zones}
    with SkyPilotPool(skypilot, prices, course.target, who.over or 0) as pool:
        return PoolReplay(pool, scenario, seed).run()
