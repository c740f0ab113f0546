"""Whole fleets under faults: one seed, one history, and no request lost."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from sim.skyfog_router.fleet import LEASE_NS, Fleet, Model, Process

from skyfog_core.config.router import RoutingConfig
from skyfog_core.rng import stream
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router.policy.router import Router

SEEDS = range(200)
CALLS = 120
DEADLINE_NS = 300 * MS
SLACK_NS = 2 * MS  # links of replicas that come and go take random times of their own; the policies take none
ZONES = [ReplicaKey(zone, "0") for zone in "abc"]


def plan_faults(fleet: Fleet, model: Model, random: Random, until_ns: int) -> None:
    """Kill and restart, or freeze and thaw, one replica again and again."""

    def fault() -> None:
        process = fleet.current[model.who]
        pause_ns = random.randint(1 * MS, 2 * LEASE_NS)
        if random.random() < 0.5:
            process.kill()
            # A new process may be there before the robot has noticed that the old one is gone.
            again: Callable[[], None] = lambda: fleet.start(model)  # noqa: E731
        else:
            process.freeze()
            again = process.thaw
        fleet.kernel.after(pause_ns, again)
        fleet.kernel.after(pause_ns + random.randint(50 * MS, 600 * MS), next_fault)

    def next_fault() -> None:
        if fleet.kernel.now_ns < until_ns:
            fault()

    fleet.kernel.after(random.randint(20 * MS, 500 * MS), next_fault)


def play(seed: int, healthy: bool, fan_out: int = 8) -> Fleet:
    """One fleet from its first call to the last event. With `healthy`, replica a meets no fault and has room."""
    random = stream(seed, "fleet", str(healthy))
    models = [
        Model(
            who,
            link_ns=(random.randint(1, 5) * MS, random.randint(5, 40) * MS),
            service_ns=(1 * MS, random.randint(1, 60) * MS),
            concurrency=CALLS if healthy and who == ZONES[0] else random.randint(1, 3),
            max_queue=random.randint(0, 4),
        )
        for who in ZONES
    ]
    fleet = Fleet(
        models,
        Router(RoutingConfig(policy="broadcast", deadline_ms=DEADLINE_NS // MS, fan_out=fan_out, max_in_flight=CALLS)),
        random,
    )
    begin_ns = 50 * MS  # everybody has joined
    when_ns = begin_ns
    for _ in range(CALLS):
        # Bursts: more than the queues of the small ones hold.
        when_ns += 0 if random.random() < 0.4 else random.randint(1 * MS, 50 * MS)
        fleet.kernel.at(when_ns, fleet.robot.call)
    for model in models[1 if healthy else 0 :]:
        plan_faults(fleet, model, random, when_ns)
    fleet.kernel.run()
    return fleet


def assert_books(fleet: Fleet) -> None:
    robot = fleet.robot
    assert len(robot.outcomes) == CALLS
    for request_id, outcomes in robot.outcomes.items():
        assert len(outcomes) == 1, f"{request_id.hex()}: {outcomes}"
        assert outcomes[0][1] - robot.began_ns[request_id] <= DEADLINE_NS
    assert not robot.router._open
    robot.router.check()
    for process in fleet.processes:
        process.desk.check()
        assert all(n == 1 for n in process.starts.values()), "a replica ran a request twice"


@pytest.mark.parametrize("seed", SEEDS)
def test_with_one_healthy_replica_nothing_fails_and_nothing_is_slower_than_it(seed: int) -> None:
    fleet = play(seed, healthy=True)
    assert_books(fleet)
    slowest_ns = next(p.model.slowest_ns for p in fleet.processes if p.model.who == ZONES[0])
    for request_id, ((outcome, when_ns),) in fleet.robot.outcomes.items():
        assert outcome == "delivered"
        assert when_ns - fleet.robot.began_ns[request_id] <= slowest_ns + SLACK_NS


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fan_out", [1, 8])
def test_under_any_faults_every_request_is_over_once_by_its_deadline(seed: int, fan_out: int) -> None:
    assert_books(play(seed, healthy=False, fan_out=fan_out))


@pytest.mark.parametrize("seed", SEEDS)
def test_same_seed_same_history(seed: int) -> None:
    first = play(seed, healthy=False).history
    assert first == play(seed, healthy=False).history
    assert first != play(seed + 1, healthy=False).history


def test_the_seeds_meet_every_kind_of_fault_and_outcome() -> None:
    fleets = [play(seed, healthy=False) for seed in range(20)]
    outcomes = {outcome for fleet in fleets for ((outcome, _),) in fleet.robot.outcomes.values()}
    assert {"delivered", "DeadlineExceeded", "NotExecuted"} <= outcomes
    processes: list[Process] = [p for fleet in fleets for p in fleet.processes]
    assert any(p.killed for p in processes)
    assert any(p.desk.duplicates for p in processes), "a thawed replica is asked again for what it has"
    events = {event.split(" ")[0] for fleet in fleets for _, event, _, _ in fleet.history}
    assert {"join", "leave", "start", "send", "deliver", "fail"} <= events
