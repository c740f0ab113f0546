"""What a seed draws for a pool: zones, markets, the pool's spec, robots and their calls, and what goes wrong.

Cold starts take seconds and not minutes, so that requests and machines meet in one short history.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Literal, get_args

from skyfog_core.config.pool import PlacerName, ReplicaPolicyConfig
from skyfog_core.config.router import RoutingConfig
from skyfog_core.rng import stream
from skyfog_core.units import MS, S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_pool.policy.market import Prices, Zone
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_sim.durations import Constant, Duration, Uniform
from skyfog_sim.net import LinkModel, WayModel
from skyfog_sim.pool_cloud import CloudZone
from skyfog_sim.replica import ReplicaModel
from skyfog_sim.robot import RobotModel
from skyfog_sim.scenario import POLICIES, RANKS, Scenario

PoolFaultKind = Literal[
    "preempt",  # the market takes `amount` machines of a zone, without a word
    "notice",  # the same, told some seconds ahead
    "rebalance",  # a recommendation: nothing comes of it
    "capacity",  # a zone's capacity falls to `amount`
    "partition",  # nothing gets into a zone or out of it
    "quota",  # launches in a zone are refused
    "error",  # launches in a zone fail, nobody knows how
    "hang",  # launches in a zone are not answered, and a machine comes all the same
    "outage",  # the provider's interface answers nothing
    "crash",  # the controller is killed, and started again
    "crash_before",  # the same, in its next turn: decided, and not written down
    "crash_after",  # written down, and not done
    "slow",  # cold starts in a zone take several times as long
    "failing",  # services end soon after they have begun
    "kill",  # one service ends by itself
    "price",  # spot in a zone costs `amount` times as much
    "spec",  # another version, or another number of replicas
]
KINDS: tuple[PoolFaultKind, ...] = get_args(PoolFaultKind)
OF_LAUNCHES: frozenset[PoolFaultKind] = frozenset({"quota", "error", "hang", "outage", "slow", "failing"})
CALM_NS = 5 * S  # before the first call
FAULTS_NS = 90 * S  # in which faults begin
MOST = 5  # replicas, by any spec: each zone alone has room for them
RESTORE_NS = 1_300 * S  # after the last fault: the longest back-offs, and a few cold starts


@dataclass(frozen=True, slots=True)
class PoolFault:
    """What goes wrong, when, where and for how long."""

    kind: PoolFaultKind
    at_ns: int
    for_ns: int
    zone: str
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} in {self.zone} for {self.for_ns / S:.1f} s, {self.amount:g}"


@dataclass(frozen=True)
class PoolDraw:
    """All that a history depends on."""

    seed: int
    placement: PlacerName
    config: ReplicaPolicyConfig
    zones: tuple[CloudZone, ...]
    fleet: Scenario  # robots, calls and routing; replicas come from the pool
    replica: ReplicaModel
    link: LinkModel
    provision: Duration
    warm_up: Duration
    faults: tuple[PoolFault, ...]

    @property
    def over_ns(self) -> int:
        """Every fault is over."""
        return max((fault.at_ns + fault.for_ns for fault in self.faults), default=CALM_NS)

    def lines(self) -> list[str]:
        """For people, before the history."""
        changed = self.config.model_dump(exclude_defaults=True)
        return [
            f"seed {self.seed}",
            f"pool  {self.placement}: " + ", ".join(f"{key}={value}" for key, value in changed.items()),
            *(f"zone  {each.zone.name}: capacity {each.capacity}, {each.prices}" for each in self.zones),
            f"calls {len(self.fleet.calls)}, routed by {self.fleet.routing.policy}",
            *(f"fault at {fault.at_ns / S:.1f} s: {fault}" for fault in self.faults),
        ]


def draw(seed: int, placement: PlacerName | None = None) -> PoolDraw:
    """The scenario of a seed; with `placement`, placed by that one."""
    random = stream(seed, "pool")
    chosen = random.choice(sorted(PLACEMENTS))
    config = _config(random)
    zones = tuple(
        CloudZone(
            Zone(name, random.choice(("east", "west"))),
            capacity=random.choice((MOST, 10)),
            prices=Prices(round(random.uniform(0.1, 0.9), 3), round(random.uniform(1.0, 1.3), 3)),
        )
        for name in "abcd"[: random.choice((2, 3, 3, 4))]
    )
    names = [each.zone.name for each in zones]
    faults = [fault for _ in range(random.randint(1, 8)) for fault in _faults(random, names, config)]
    config = config.model_copy(
        update={
            "on_notice": stream(seed, "pool notices").choice(("drain", "serve")),
            "min_zones": stream(seed, "pool zones").choice((1, 2, 3)),
        }
    )
    return PoolDraw(
        seed,
        placement or chosen,
        config,
        zones,
        _fleet(random, seed),
        ReplicaModel(ReplicaKey("", ""), Uniform(2 * MS, 30 * MS), random.choice((1, 2)), 8),
        LinkModel(WayModel(Uniform(1 * MS, 8 * MS)), WayModel(Uniform(1 * MS, 8 * MS))),
        provision=Uniform(500 * MS, random.choice((1, 4)) * S),
        warm_up=random.choice((Constant(500 * MS), Uniform(1 * S, 5 * S))),
        faults=tuple(sorted(faults, key=lambda fault: fault.at_ns)),
    )


def _config(random: Random) -> ReplicaPolicyConfig:
    least = random.choice((1, 2, 3, 4))
    values: dict[str, Any] = {
        "min_replicas": least,
        "num_overprovision": random.choice((None, 0, 1, 2)),
        "dynamic_ondemand_fallback": random.random() < 0.7,
        "base_ondemand_fallback_replicas": random.choice((0, 0, 1)),
        "surge": random.choice((1, 1, 2)),
        "drain_seconds": random.choice((0.0, 1.0, 5.0)),
        "max_launching": random.choice((2, 16)),
    }
    if random.random() < 0.3:  # scaled by the robots' requests
        values |= {
            "min_replicas": random.choice((0, 1, 2)),
            "max_replicas": MOST,
            "target_qps_per_replica": random.choice((0.1, 0.3)),
            "upscale_delay_seconds": random.choice((0.0, 6.0)),
            "downscale_delay_seconds": random.choice((6.0, 20.0)),
        }
    return ReplicaPolicyConfig(**values)


def _fleet(random: Random, seed: int) -> Scenario:
    routing = RoutingConfig(policy=random.choice(POLICIES), rank=random.choice(RANKS), deadline_ms=1_000)
    robots = tuple(RobotModel(f"robot{i}", random.choice("ab")) for i in range(random.choice((1, 2))))
    when_ns, calls = CALM_NS, []
    for _ in range(random.randint(15, 30)):
        when_ns += random.choice((0, random.randint(1, 200) * MS, random.randint(1, 6) * S))
        calls.append((when_ns, random.randrange(len(robots))))
    return Scenario(seed, robots, (), {}, tuple(calls), (), routing, routing, lease_ns=2 * S, restart_ns=S)


def _faults(random: Random, zones: list[str], config: ReplicaPolicyConfig) -> list[PoolFault]:
    """One fault; one of launches mostly with a reason to launch in its time."""
    kind = random.choice(KINDS)
    for_ns = round(random.choice((random.uniform(0.1, 3), random.uniform(3, 40))) * S)
    at_ns, zone, amount = random.randint(0, FAULTS_NS), random.choice(zones), 0.0
    if kind in {"preempt", "notice", "rebalance"}:
        amount = random.choice((1, 2, 10))
    elif kind == "capacity":
        amount = random.choice((0, 0, 1))
    elif kind == "slow":
        amount = random.choice((3, 8))
    elif kind == "price":
        amount = random.choice((0.5, 3.0))
    elif kind == "spec":
        amount = random.choice((config.min_replicas, 1, MOST))
    fault = PoolFault(kind, at_ns, for_ns, zone, amount)
    if kind not in OF_LAUNCHES or random.random() < 0.3:
        return [fault]
    return [fault, PoolFault("preempt", at_ns + random.randint(0, for_ns), 0, random.choice(zones), 10)]
