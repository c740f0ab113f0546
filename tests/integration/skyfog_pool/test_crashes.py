"""A controller that is killed at any point of its work, and started again, loses no replica and doubles none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfog_pool.lifecycle import State
from support.pool_world import World, dump, running, spec_of

ENDS = {State.TERMINATED, State.PREEMPTED, State.FAILED_PROVISION}


def play(world: World) -> None:
    """Up; a preemption, a refusal, an error, a lost answer; a new version; fewer; down."""
    cloud = world.cloud
    assert world.steps(60, lambda: world.at_target(3)), dump(world)
    cloud.preempt(running(world)[0].id)
    cloud.fail("capacity")
    cloud.fail("lost")
    assert world.steps(120, lambda: world.at_target(3)), dump(world)
    cloud.crash(running(world)[0].id)
    world.stray(1)
    world.stray(99)
    cloud.fail("error")
    assert world.steps(120, lambda: world.at_target(3)), dump(world)
    world.ask_for(spec_of(run="serve --newer"))
    assert world.steps(200, lambda: world.at_target(3) and all(row.version == 2 for row in world.rows())), dump(world)
    world.ask_for(spec_of(run="serve --newer", policy={"min_replicas": 2}))
    assert world.steps(120, lambda: world.at_target(2)), dump(world)
    world.take_down()
    assert world.steps(120, world.is_down), dump(world)
    assert not world.rows()
    assert {row.state for row in world.rows(live=False)} <= ENDS | {State.FAILED}


def points(tmp_path: Path) -> int:
    world = World(tmp_path / "none")
    play(world)
    world.close()
    assert world.crashes == 0
    return world.points.passed


@pytest.mark.timeout(300)
def test_killed_at_each_point(tmp_path: Path) -> None:
    total = points(tmp_path)
    assert total > 100
    crashed = 0
    for point in range(total):
        world = World(tmp_path / str(point), [point])
        play(world)
        world.close()
        crashed += world.crashes
    assert crashed >= total * 0.95  # with a crash the history is another, and may be shorter


@settings(max_examples=40)
@given(crash_at=st.lists(st.integers(0, 600), max_size=40, unique=True))
def test_killed_again_and_again(tmp_path_factory: pytest.TempPathFactory, crash_at: list[int]) -> None:
    world = World(tmp_path_factory.mktemp("world"), crash_at)
    play(world)
    world.close()
