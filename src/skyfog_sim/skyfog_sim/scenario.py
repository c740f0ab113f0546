"""What a seed draws: the fleet, its links, the workload, the faults, and how requests are routed.

Half of the scenarios keep one replica safe: no fault strikes it, its links neither lose nor cut, it has room for
everything and answers well within the deadline. There no idempotent request may fail. A policy that waits for those
whom it asked cannot know that one is frozen or hopelessly slow: with such policies nobody is, and only faults are drawn
that the caller is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, get_args

from skyfog_core.config.router import HealthConfig, PolicyName, RankName, RoutingConfig
from skyfog_core.rng import stream
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_sim import faults
from skyfog_sim.durations import Constant, Duration, Empirical, LogNormal, Uniform
from skyfog_sim.faults import KINDS, OF_ROBOTS, PROMPT, Fault
from skyfog_sim.net import RESEND_NS, LinkModel, WayModel
from skyfog_sim.replica import TYPE_HASH, ReplicaModel
from skyfog_sim.robot import RobotModel

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
RANKS: tuple[RankName, ...] = get_args(RankName)
ASKS_ALL_IN_TIME: frozenset[PolicyName] = frozenset({"broadcast", "slo"})  # whoever is silent, somebody else is asked
REPEATS: tuple[Literal["if_not_executed", "at_most_once"], ...] = ("if_not_executed", "at_most_once")
JOINED_NS = 80 * MS  # everybody has joined
OTHER_TYPE = b"\x01" * 32

# First solutions of RRTConnect on a shelf, scaled down: a short median and a very long tail.
PLANNER = Empirical.of_quantiles({0.0: 1 * MS, 0.5: 4 * MS, 0.9: 11 * MS, 0.99: 21 * MS, 1.0: 57 * MS})


@dataclass(frozen=True)
class Scenario:
    """All that a history depends on."""

    seed: int
    robots: tuple[RobotModel, ...]
    replicas: tuple[ReplicaModel, ...]
    links: Mapping[tuple[str, ReplicaKey], LinkModel]
    calls: tuple[tuple[int, int], ...]  # when, and by which robot
    faults: tuple[Fault, ...]
    routing: RoutingConfig
    later_routing: RoutingConfig  # after a reconfiguration
    lease_ns: int
    restart_ns: int  # after its memory was gone
    safe: ReplicaKey | None = None

    def lines(self) -> list[str]:
        """For people, before the history."""
        changed = self.routing.model_dump(exclude_defaults=True)
        text = [f"seed {self.seed}", "routing " + ", ".join(f"{key}={value}" for key, value in changed.items())]
        text += [f"robot   {robot.name} in zone {robot.zone}" for robot in self.robots]
        for model in self.replicas:
            what = f"{model.concurrency} at once, {model.max_queue} waiting, {model.service}"
            text.append(f"replica {model.who}{' (safe)' if model.who == self.safe else ''}: {what}")
        return [*text, f"calls   {len(self.calls)}", *(f"fault   at {f.at_ns / MS:.0f} ms: {f}" for f in self.faults)]


def draw(seed: int, policy: PolicyName | None = None) -> Scenario:
    """The scenario of a seed; with `policy`, routed by that one."""
    random = stream(seed, "scenario")
    safe = random.random() < 0.5
    routing = draw_routing(random, policy or _any(random), safe)
    robots = tuple(RobotModel(f"robot{i}", random.choice("abc")) for i in range(random.choice((1, 1, 2, 3))))
    later_routing = draw_routing(random, _any(random), safe, like=routing)
    patient = safe and not {routing.policy, later_routing.policy} <= ASKS_ALL_IN_TIME
    replicas = _replicas(random, robots, routing, safe, patient)
    links = {
        (robot.name, model.who): _link(random, robot, model, patient or (safe and model is replicas[0]))
        for robot in robots
        for model in replicas
        if model.owner in {"", robot.name}
    }
    calls = _calls(random, len(robots))
    lease_ns = random.choice((100, 400, 1_000)) * MS
    allowed = PROMPT if patient else frozenset(KINDS) - OF_ROBOTS if safe else frozenset(KINDS)
    kinds = [kind for kind in KINDS if kind == "reconfigure" or kind in allowed]
    targets = [i for i, model in enumerate(replicas) if not model.owner and not (safe and i == 0)]
    struck = faults.draw(random, kinds, targets, len(robots), calls[-1][0], lease_ns) if targets else ()
    return Scenario(
        seed,
        robots,
        replicas,
        links,
        calls,
        struck,
        routing,
        later_routing,
        lease_ns,
        restart_ns=random.randint(10, 500) * MS,
        safe=replicas[0].who if safe else None,
    )


def _any(random: Random) -> PolicyName:
    return random.choice(POLICIES)


def draw_routing(random: Random, policy: PolicyName, safe: bool, like: RoutingConfig | None = None) -> RoutingConfig:
    """How requests are routed. What the invariants take from the time of a call stays as in `like`."""
    deadline_ms = like.deadline_ms if like else random.choice((300, 600) if safe else (100, 200, 300, 600))
    repeat = like.repeat if like else random.choice(REPEATS) if not safe and random.random() < 0.4 else "idempotent"
    once = repeat != "idempotent"
    if once and policy not in {"single", "slo"}:
        policy = random.choice(("single", "slo"))
    answer = "first" if safe or once or random.random() < 0.6 else random.choice(("best_by_deadline", "quorum"))
    fan_out = 8 if safe or random.random() < 0.5 else random.choice((2, 3))
    values: dict[str, Any] = {
        "policy": policy,
        "rank": random.choice(RANKS),
        "repeat": repeat,
        "answer": answer,
        "quality_field": "quality",
        "quality": random.choice(("min", "max")),
        "quorum": 2,
        "quorum_fields": random.choice(([], ["value"])),
        "deadline_ms": deadline_ms,
        "slo_ms": random.choice((0, 0, deadline_ms // 4, deadline_ms // 2, deadline_ms)),
        "slo_target": random.choice((0.9, 0.99)),
        "extra_load": random.choice((0.0, 0.1, 0.4, 1.0)),
        "hedge_quantile": random.choice((0.5, 0.9, 0.95)),
        "k": random.choice((1, 2, 3)),
        "fan_out": fan_out,
        "max_attempts": 64 if safe else random.choice((2, 4, 16, 64)),
        "max_in_flight": 1_000 if safe else random.choice((3, 1_000, 1_000)),
        "priority": random.choice((-1, 0, 0, 5)),
        "health": HealthConfig(
            consecutive_failures=random.choice((1, 3)),
            outlier_factor=random.choice((1.5, 4.0)),
            ejection_ms=random.choice((10, 100)),
            max_ejection_ms=random.choice((100, 1_000)),
            max_ejected=random.choice((0.0, 0.5, 1.0)),
            panic_below=random.choice((0.0, 0.34, 1.0)),
        ),
    }
    return RoutingConfig(**values)


def _replicas(
    random: Random, robots: tuple[RobotModel, ...], routing: RoutingConfig, safe: bool, patient: bool
) -> tuple[ReplicaModel, ...]:
    zones = "abc"[: random.choice((1, 2, 3))]
    count = random.choice((1, 2, 3, 3, 4, 5))
    models = [_replica(random, ReplicaKey(random.choice(zones), str(i)), routing, patient) for i in range(count)]
    if safe:
        models[0] = ReplicaModel(models[0].who, _quick(routing.deadline_ms), concurrency=1_000, max_queue=64)
    if random.random() < 0.3:
        owner = random.choice(robots).name
        models.append(replace(_replica(random, ReplicaKey(owner, "local"), routing, patient), owner=owner))
    return tuple(models)


def _replica(random: Random, who: ReplicaKey, routing: RoutingConfig, patient: bool) -> ReplicaModel:
    return ReplicaModel(
        who,
        _quick(routing.deadline_ms) if patient else _service(random, routing.deadline_ms),
        concurrency=random.choice((1, 1, 2, 4)),
        max_queue=random.choice((0, 1) if patient else (0, 1, 4, 64)),
        price_per_hour=random.choice((0.0, 0.5, 3.0)),
        can_abandon=random.random() < 0.5,
        can_stop=random.random() < 0.5,
        quality=random.random(),
        wrong=random.random() < 0.1,
        type_hash=OTHER_TYPE if random.random() < 0.04 else TYPE_HASH,
    )


def _quick(deadline_ms: int) -> Duration:
    return Uniform(MS, deadline_ms // 20 * MS)


def _service(random: Random, deadline_ms: int) -> Duration:
    median_ns = random.choice((2, 5, 20, deadline_ms // 4)) * MS
    return random.choice(
        (
            Constant(median_ns),
            Uniform(MS, 2 * median_ns),
            LogNormal(median_ns, random.choice((0.2, 0.6, 1.2)), most_ns=deadline_ms * 3 * MS),
            PLANNER,
        )
    )


def _link(random: Random, robot: RobotModel, model: ReplicaModel, quick: bool) -> LinkModel:
    if model.owner:
        return LinkModel(WayModel(Constant(MS // 10)), WayModel(Constant(MS // 10)))
    base_ns = (random.randint(1, 4) if quick or robot.zone == model.who.zone else random.randint(5, 40)) * MS
    delay: Duration = random.choice((Constant(base_ns), Uniform(base_ns // 2, base_ns * 3 // 2)))
    if quick:
        return LinkModel(WayModel(delay), WayModel(delay))
    delay = random.choice((delay, LogNormal(base_ns, 0.4, most_ns=10 * base_ns)))
    loss = random.choice((0.0, 0.0, 0.0, 0.02))
    reorder = random.choice((0.0, 0.0, 0.1))
    twice = random.choice((0.0, 0.0, 0.1, 1.0))
    way = WayModel(delay, loss, random.choice((0, RESEND_NS)), reorder, twice)
    return LinkModel(way, way)


def _calls(random: Random, robots: int) -> tuple[tuple[int, int], ...]:
    """30 to 60 calls, some in bursts: more than small queues hold."""
    pace_ns = random.choice((5, 20, 50)) * MS
    burst = random.choice((0.1, 0.4))
    when_ns = JOINED_NS
    calls = []
    for _ in range(random.randint(30, 60)):
        when_ns += 0 if random.random() < burst else random.randint(MS, 2 * pace_ns)
        calls.append((when_ns, random.randrange(robots)))
    return tuple(calls)
