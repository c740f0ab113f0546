"""What a listing says: whatever the store and the provider have, nothing is lost, nothing is guessed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyfog_pool.lifecycle import LIVE, State
from skyfog_pool.provider.base import Ending, Instance, Phase
from skyfog_pool.reconcile import AskAgain, Gone, Has, Known, Leak, reconcile

LISTED, NOW, SETTLE = 1_000, 1_100, 500
ALIVE = {Phase.PENDING, Phase.RUNNING}
HELD = sorted(LIVE - {State.UNKNOWN})


@st.composite
def knowns(draw: st.DrawFn) -> list[Known]:
    count = draw(st.integers(0, 6))
    return [
        Known(
            replica=number,
            token=f"t{number}",
            market=draw(st.sampled_from(["spot", "on_demand"])),
            state=draw(st.sampled_from(HELD)),
            instance=draw(st.sampled_from(["", f"i{number}a"])),
            asked_ns=draw(st.sampled_from([0, 550, 700, 1_050])),
            changed_ns=draw(st.sampled_from([0, 999, 1_000, 1_050])),
            asking=draw(st.booleans()),
        )
        for number in range(count)
    ]


@st.composite
def listings(draw: st.DrawFn) -> list[Instance]:
    ids = draw(st.sets(st.sampled_from([f"i{number}{letter}" for number in range(8) for letter in "ab"])))
    machines = []
    for name in sorted(ids):
        phase = draw(st.sampled_from(Phase))
        ending = draw(st.sampled_from(Ending)) if phase is Phase.GONE else Ending.NONE
        machines.append(Instance(name, "p", int(name[1]), 1, f"t{name[1]}", "z", "spot", phase, ending))
    return draw(st.permutations(machines))


@given(knowns(), listings())
def test_every_machine_is_one_replicas_or_a_leak_and_nobody_is_told_twice(
    known: list[Known], machines: list[Instance]
) -> None:
    findings = reconcile(known, machines, LISTED, NOW, SETTLE)
    had = [finding.instance.id for finding in findings if isinstance(finding, Has)]
    leaked = [finding.instance.id for finding in findings if isinstance(finding, Leak)]
    assert len(had) == len(set(had))
    assert not set(had) & set(leaked)
    for machine in machines:
        if machine.phase in ALIVE:
            assert (machine.id in had) != (machine.id in leaked)
        else:
            assert machine.id not in leaked
    about = [finding.replica for finding in findings if not isinstance(finding, Leak)]
    assert len(about) == len(set(about))


@given(knowns(), listings())
def test_silence_about_what_is_new_or_under_way_proves_nothing(known: list[Known], machines: list[Instance]) -> None:
    tokens = {machine.token for machine in machines}
    told = {f.replica: f for f in reconcile(known, machines, LISTED, NOW, SETTLE) if not isinstance(f, Leak)}
    for who in known:
        if who.token in tokens:
            continue
        if who.asking or who.changed_ns >= LISTED:
            assert who.replica not in told
        elif not who.instance and who.state in {State.PENDING, State.PROVISIONING}:
            assert told[who.replica] == AskAgain(who.replica)
        elif NOW - who.asked_ns >= SETTLE:
            assert isinstance(told[who.replica], Gone)


@given(knowns(), listings())
def test_a_replica_keeps_the_machine_that_it_has(known: list[Known], machines: list[Instance]) -> None:
    by_id = {machine.id: machine for machine in machines}
    for finding in reconcile(known, machines, LISTED, NOW, SETTLE):
        if isinstance(finding, Has):
            who = next(each for each in known if each.replica == finding.replica)
            assert finding.instance.token == who.token
            if who.instance in by_id:
                assert finding.instance.id == who.instance
