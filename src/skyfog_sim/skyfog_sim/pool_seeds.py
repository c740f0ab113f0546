"""Plays seeds of pool and router together: many at a time for a verdict, or one for its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.config.pool import PlacerName
from skyfog_sim.pool_draw import draw
from skyfog_sim.pool_world import MakePolicy, PoolWorld, production_policy
from skyfog_sim.verdict import Failure, as_json, verdict


@dataclass(slots=True)
class PoolTally:
    """What many seeds met together."""

    seeds: int = 0
    events: int = 0
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in ("placements", "faults", "pool", "outcomes")}
    )
    failures: list[Failure] = field(default_factory=list)

    def add(self, world: PoolWorld) -> None:
        self.seeds += 1
        self.events += world.kernel.calls
        self.counts["placements"][world.drawn.placement] += 1
        self.counts["faults"].update(world.faults_met)
        self.counts["pool"].update(world.check.met)
        self.counts["outcomes"].update(world.cluster.check.outcomes)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"seeds": self.seeds, "events": self.events, **self.counts, "failures": as_json(self.failures)}


def replay(
    seed: int, placement: PlacerName | None = None, make_policy: MakePolicy = production_policy
) -> tuple[PoolWorld, str]:
    """Play one seed. Returns what broke, empty if nothing did, with the history up to there."""
    world = PoolWorld(draw(seed, placement), make_policy)
    return world, verdict(world.run)


def run(seeds: Iterable[int], placement: PlacerName | None = None) -> PoolTally:
    """Play many seeds."""
    tally = PoolTally()
    for seed in seeds:
        world, why = replay(seed, placement)
        tally.add(world)
        if why:
            tally.failures.append(Failure(seed, _command(seed, placement), why))
    return tally


def _command(seed: int, placement: PlacerName | None) -> str:
    return f"./ws run skyfog sim pool --seed {seed}" + (f" --placement {placement}" if placement else "")
