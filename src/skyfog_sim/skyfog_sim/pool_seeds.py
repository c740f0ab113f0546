"""Plays seeds of pool and router together: many at a time for a verdict, or one for its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.config.pool import PlacerName
from skyfog_sim.check import Broken
from skyfog_sim.pool_draw import draw
from skyfog_sim.pool_world import MakePolicy, PoolWorld, production_policy


@dataclass(frozen=True, slots=True)
class PoolFailure:
    """A seed that breaks an invariant, and how to see it again."""

    seed: int
    placement: PlacerName | None
    why: str

    @property
    def command(self) -> str:
        placement = f" --placement {self.placement}" if self.placement else ""
        return f"./ws run skyfog sim pool --seed {self.seed}{placement}"

    def __str__(self) -> str:
        return f"{self.command}   # {self.why}"


@dataclass(slots=True)
class PoolTally:
    """What many seeds met together."""

    seeds: int = 0
    events: int = 0
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in ("placements", "faults", "pool", "outcomes")}
    )
    failures: list[PoolFailure] = field(default_factory=list)

    def add(self, world: PoolWorld) -> None:
        self.seeds += 1
        self.events += world.kernel.calls
        self.counts["placements"][world.drawn.placement] += 1
        self.counts["faults"].update(world.faults_met)
        self.counts["pool"].update(world.check.met)
        self.counts["outcomes"].update(world.cluster.check.outcomes)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        failures = [{"seed": f.seed, "why": f.why, "replay": f.command} for f in self.failures]
        return {"seeds": self.seeds, "events": self.events, **self.counts, "failures": failures}


def replay(
    seed: int, placement: PlacerName | None = None, make_policy: MakePolicy = production_policy
) -> tuple[PoolWorld, str]:
    """Play one seed. Returns what broke, empty if nothing did, with the history up to there."""
    world = PoolWorld(draw(seed, placement), make_policy)
    try:
        world.run()
    except Broken as broken:
        return world, str(broken)
    except Exception as error:  # noqa: BLE001  # a policy that raises is a finding like any other, at this seed
        return world, f"raised: {type(error).__name__}: {error}"
    return world, ""


def run(seeds: Iterable[int], placement: PlacerName | None = None) -> PoolTally:
    """Play many seeds."""
    tally = PoolTally()
    for seed in seeds:
        world, why = replay(seed, placement)
        tally.add(world)
        if why:
            tally.failures.append(PoolFailure(seed, placement, why))
    return tally
