"""Plays seeds: many at a time for a verdict, or one for its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.config.router import PolicyName
from skyfog_sim.cluster import Cluster
from skyfog_sim.scenario import draw
from skyfog_sim.verdict import Failure, as_json, verdict


@dataclass(slots=True)
class Tally:
    """What many seeds met together."""

    seeds: int = 0
    events: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    sends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        counts = {"policies": self.policies, "outcomes": self.outcomes, "sends": self.sends, "faults": self.faults}
        return {"seeds": self.seeds, "events": self.events, **counts, "failures": as_json(self.failures)}

    def add(self, cluster: Cluster) -> None:
        self.seeds += 1
        self.events += cluster.kernel.calls
        self.outcomes.update(cluster.check.outcomes)
        self.sends.update(cluster.check.sends)
        self.faults.update(cluster.faults_met)
        self.policies[cluster.scenario.routing.policy] += 1


def replay(seed: int, policy: PolicyName | None = None) -> tuple[Cluster, str]:
    """Play one seed. Returns what broke, empty if nothing did, with the history up to there."""
    cluster = Cluster(draw(seed, policy))
    return cluster, verdict(cluster.run)


def run(seeds: Iterable[int], policy: PolicyName | None = None) -> Tally:
    """Play many seeds."""
    tally = Tally()
    for seed in seeds:
        cluster, why = replay(seed, policy)
        tally.add(cluster)
        if why:
            tally.failures.append(Failure(seed, _command(seed, policy), why))
    return tally


def _command(seed: int, policy: PolicyName | None) -> str:
    return f"./ws run skyfog sim replay {seed}" + (f" --policy {policy}" if policy else "")
