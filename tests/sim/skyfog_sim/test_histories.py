"""What the seeds are: repeatable, different, and together everything that may happen."""

from __future__ import annotations

import pytest

from skyfog_core.units import MS
from skyfog_sim.cluster import Cluster
from skyfog_sim.faults import KINDS
from skyfog_sim.replay import replay, run
from skyfog_sim.scenario import POLICIES, RANKS, draw

SEEDS = range(0, 200, 2)
MANY = range(300)


def play(seed: int) -> Cluster:
    cluster, why = replay(seed)
    assert not why, why
    return cluster


@pytest.mark.parametrize("first", SEEDS[::10])
def test_same_seed_same_history(first: int) -> None:
    for seed in range(first, first + 5):
        assert draw(seed) == draw(seed)
        assert play(seed).history.entries == play(seed).history.entries
        assert play(seed).history.digest() != play(seed + 1).history.digest()


def test_the_seeds_meet_every_kind_of_fault_policy_send_and_outcome() -> None:
    tally = run(MANY)
    assert tally.faults.keys() == set(KINDS)
    assert tally.policies.keys() == set(POLICIES)
    assert {"first", "copy", "hedge", "retry", "probe", "rescue", "local"} <= tally.sends.keys()
    assert {
        "delivered",
        "DeadlineExceeded",
        "NotExecuted",
        "NoReplica",
        "NoQuorum",
        "OutcomeUnknown",
        "Overloaded",
        "ServiceFailed",
    } <= tally.outcomes.keys()


def test_the_seeds_draw_every_way_to_route() -> None:
    drawn = [draw(seed) for seed in MANY]
    assert {s.routing.rank for s in drawn} == set(RANKS)
    assert {s.routing.repeat for s in drawn} == {"idempotent", "if_not_executed", "at_most_once"}
    assert {s.routing.answer for s in drawn} == {"first", "best_by_deadline", "quorum"}
    assert {s.safe is None for s in drawn} == {True, False}
    assert any(model.owner for s in drawn for model in s.replicas)
    assert any(model.type_hash != s.replicas[0].type_hash for s in drawn for model in s.replicas)
    assert {len(s.robots) for s in drawn} >= {1, 2, 3}
    assert {len({model.who.zone for model in s.replicas if not model.owner}) for s in drawn} == {1, 2, 3}
    assert {policy: draw(7, policy).routing.policy for policy in POLICIES} == {policy: policy for policy in POLICIES}


def test_the_seeds_reach_what_a_replica_must_get_right() -> None:
    clusters = [play(seed) for seed in SEEDS]
    processes = [process for cluster in clusters for process in cluster.processes]
    assert any(process.desk.duplicates for process in processes), "asked again for what it has"
    assert any(process.killed for process in processes)
    events = {entry.event for cluster in clusters for entry in cluster.history.entries}
    assert {"join", "leave", "send", "cancel", "start", "done", "deliver", "fail", "eject", "readmit"} <= events


def test_every_call_that_was_made_is_accounted_for() -> None:
    for seed in SEEDS:
        cluster = play(seed)
        made = sum(1 for entry in cluster.history.entries if entry.event == "call")
        assert made == len(cluster.check.calls) == sum(cluster.check.outcomes.values())
        if "stop" not in cluster.faults_met:
            assert made == len(cluster.scenario.calls)


def test_broadcast_is_never_slower_than_the_one_healthy_replica() -> None:
    seen = 0
    for seed in range(100):
        cluster = Cluster(draw(seed, "broadcast"))
        cluster.run()
        safe = next((m for m in cluster.scenario.replicas if m.who == cluster.scenario.safe), None)
        if safe is None:
            continue
        for call in cluster.check.calls.values():
            if call.config.policy == "broadcast":
                slowest_ns = safe.service.most_ns + cluster.scenario.links[call.robot.name, safe.who].most_ns
                assert call.over_ns - call.began_ns <= slowest_ns, f"seed {seed}"
                seen += 1
    assert seen > 500


def test_a_history_reads_well() -> None:
    cluster = play(3)
    lines = list(cluster.history.lines())
    assert any("send" in line and "ms left" in line for line in lines)
    assert all(line.split(" ms  ")[0].strip().replace(".", "").isdigit() for line in lines)
    assert [entry.t_ns for entry in cluster.history.entries] == sorted(e.t_ns for e in cluster.history.entries)
    assert cluster.history.entries[-1].t_ns > 80 * MS
