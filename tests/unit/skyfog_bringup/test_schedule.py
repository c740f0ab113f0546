"""Which faults come when, and whom they hit."""

from __future__ import annotations

import pytest

from skyfog_bringup.demo.schedule import Fault, FaultKind, faults, victim

ABC = ("a/0", "b/1", "c/2")


def test_a_kill_after_a_third_and_a_freeze_after_two_thirds() -> None:
    assert faults(45, 3) == [Fault(FaultKind.KILL, 15), Fault(FaultKind.FREEZE, 30)]


@pytest.mark.parametrize(("replicas", "count"), [(1, 0), (2, 1), (3, 2), (6, 2)])
def test_one_replica_always_stays_healthy(replicas: int, count: int) -> None:
    assert len(faults(12, replicas)) == count


def test_the_fault_hits_whom_the_robot_lives_on_now() -> None:
    long_ago = [(float(t), "a/0") for t in range(10)]
    assert victim([*long_ago, (18.0, "b/1"), (19.0, "b/1"), (19.5, "c/2")], 20.0, ABC) == "b/1"


def test_a_replica_with_a_fault_is_not_hit_again() -> None:
    assert victim([(19.0, "a/0"), (19.5, "b/1")], 20.0, ABC[1:]) == "b/1"


def test_without_any_answer_the_nearest_is_hit() -> None:
    assert victim([], 20.0, ABC) == "a/0"
