"""Whose turn it is at a replica."""

from __future__ import annotations

import pytest

from skyfog_router.policy import fairness
from skyfog_router.policy.fairness import Job, Turns

COST_NS = 100_000


def job(name: str, priority: int = 0) -> Job:
    """`a3`: the third request of robot a."""
    return Job(name.encode().ljust(16), name[0], priority, 0, 1_000)


def turns(*names: str) -> Turns:
    made = Turns()
    for name in names:
        made.add(job(name))
    return made


def play(made: Turns, runs: int, cost_ns: int = COST_NS) -> list[str]:
    """Run one after the other."""
    order = []
    for _ in range(runs):
        one = made.next()
        made.start(one, cost_ns)
        made.check()
        made.end(one, cost_ns)
        made.check()
        order.append(one.request_id.decode().strip())
    return order


def test_one_robot_is_served_in_order() -> None:
    made = turns("a1", "a2", "a3")
    assert play(made, 3) == ["a1", "a2", "a3"]
    assert len(made) == 0
    assert not made._lanes


def test_robots_take_turns_however_much_each_wants() -> None:
    assert play(turns("a1", "a2", "a3", "a4", "b1", "b2", "c1"), 7) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_turns_are_taken_where_a_run_costs_nothing() -> None:
    assert play(turns("a1", "a2", "b1", "b2"), 4, 0) == ["a1", "b1", "a2", "b2"]


def test_nobody_saves_up_turns() -> None:
    made = turns(*(f"a{n}" for n in range(9)))
    play(made, 4)
    for n in range(9):
        made.add(job(f"b{n}"))
    assert play(made, 6) == ["b0", "a4", "b1", "a5", "b2", "a6"]


def test_who_comes_back_has_saved_up_nothing() -> None:
    made = turns(*(f"a{n}" for n in range(9)), "b0")
    assert play(made, 2) == ["a0", "b0"]
    play(made, 4)
    for n in range(1, 9):
        made.add(job(f"b{n}"))
    assert play(made, 4) == ["b1", "a5", "b2", "a6"]


def test_a_run_that_took_longer_than_expected_is_paid_for() -> None:
    made = turns("a1", "a2", "a3", "b1", "b2", "b3")
    first = made.next()
    made.start(first, COST_NS)
    made.end(first, 3 * COST_NS)
    assert play(made, 4) == ["b1", "b2", "b3", "a2"]


def test_runs_beside_each_other_are_charged_when_they_start() -> None:
    made = turns("a1", "a2", "b1")
    first = made.next()
    made.start(first, COST_NS)
    assert made.next().robot == "b"


def test_a_higher_priority_goes_first_and_is_fair_within() -> None:
    made = turns("a1", "a2")
    for name in ("b1", "b2", "c1"):
        made.add(job(name, priority=1))
    assert play(made, 5) == ["b1", "c1", "b2", "a1", "a2"]


@pytest.mark.parametrize(
    ("robot", "priority", "ahead"), [("a", 0, 3), ("b", 0, 2), ("c", 0, 1), ("c", 1, 0), ("c", -1, 4)]
)
def test_who_goes_before_a_newcomer_is_counted(robot: str, priority: int, ahead: int) -> None:
    made = turns("a0", "a1", "a2", "a3", "b1")
    play(made, 1)  # a has used COST_NS
    assert made.ahead_of(robot, priority, COST_NS) == ahead + (robot == "a")
    made.add(Job(b"new" * 5 + b"!", robot, priority, 0, 1_000))
    order = play(made, 5)
    assert order.index("new" * 5 + "!") == ahead + (robot == "a")


def test_the_place_of_a_newcomer_is_taken_from_the_one_with_most() -> None:
    made = turns("a1", "a2", "a3", "b1")
    victim = made.victim("c", 0)
    assert victim is not None
    assert victim.request_id.strip() == b"a3"
    assert made.victim("a", 0) is None


def test_with_as_many_places_the_one_that_used_more_time_goes() -> None:
    made = turns("a0", "a1")
    assert made.victim("b", 0) is not None  # two against one
    play(made, 1)
    victim = made.victim("b", 0)
    assert victim is not None
    assert victim.robot == "a"
    made.remove(victim.request_id)
    made.add(job("b1"))
    assert made.victim("a", 0) is None, "it would go back and forth"


def test_a_lower_priority_never_takes_a_place() -> None:
    made = Turns()
    for n in range(5):
        made.add(job(f"a{n}", priority=1))
    assert made.victim("b", 0) is None
    victim = made.victim("a", 2)
    assert victim is not None
    assert victim.request_id.strip() == b"a4"


def test_robots_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "MAX_IDLE_FLOWS", 50)
    made = turns("z1")
    made.add(job("z2"))
    for n in range(500):
        made.add(Job(n.to_bytes(16, "big"), f"robot {n}", 0, 0, 1_000))
        one = made.get(n.to_bytes(16, "big"))
        assert one is not None
        made.start(one, COST_NS)
        made.end(one, COST_NS)
    assert len(made._lanes[0].flows) < 200
    made.check()
