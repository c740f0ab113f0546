"""The Keeper in a world moved by hand: what it makes of each thing that a provider, a replica or a person may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from skyfog_core.units import S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_pool import report
from skyfog_pool.keeper import ASK_TRIES
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.market import Prices
from support.pool_world import World, dump, running, spec_of


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    assert world.steps(10, lambda: world.at_target(3)), dump(world)
    yield world
    world.take_down()
    assert world.steps(400, world.is_down), dump(world)  # the leak test
    world.close()


def states(world: World) -> list[State]:
    return [row.state for row in world.rows(live=False)]


def test_a_preempted_replica_is_replaced_and_said_so(world: World) -> None:
    world.cloud.preempt(running(world)[0].id)
    assert world.steps(30, lambda: world.at_target(3))
    gone = next(row for row in world.rows(live=False) if row.state is State.PREEMPTED)
    assert gone.why == "the market took its machine"
    assert gone.ended_unix is not None


def test_a_machine_that_is_told_of_no_more_was_preempted(world: World) -> None:
    world.cloud.preempt(running(world)[0].id)
    world.cloud.forget()
    assert world.steps(30, lambda: world.at_target(3))
    assert State.PREEMPTED in states(world)


def test_a_machine_that_somebody_else_gave_back_is_replaced(world: World) -> None:
    machine = running(world)[0]
    from support.fake_cloud import FakeProvider

    FakeProvider(world.cloud).terminate(machine.id)
    assert world.steps(60, lambda: world.at_target(3))
    assert any(row.why == "its machine was given back by somebody else" for row in world.rows(live=False))


def test_a_refused_launch_says_why_and_another_zone_is_tried(world: World) -> None:
    world.cloud.fail("quota")
    world.cloud.preempt(running(world)[0].id)
    assert world.steps(60, lambda: world.at_target(3)), dump(world)
    refused = next(row for row in world.rows(live=False) if row.state is State.FAILED_PROVISION)
    assert "quota" in refused.why


def test_an_outage_changes_nothing_and_is_over_when_it_is(world: World) -> None:
    before = {machine.id for machine in running(world)}
    world.cloud.outage = "error"
    with pytest.raises(Exception, match="fake: error"):
        world.steps(1)  # prices are asked for too; a controller waits, see its own tests
    world.cloud.outage = ""
    world.steps(5)
    assert {machine.id for machine in running(world)} == before


def test_a_machine_that_comes_after_all_is_given_back(world: World) -> None:
    """The provider never answered, and was asked often enough: what comes then is nobody's."""
    asked: list[object] = []
    world.cloud.on_launch = asked.append
    for _ in range(ASK_TRIES):
        world.cloud.fail("error")
    world.cloud.preempt(running(world)[0].id)
    assert world.steps(60, lambda: State.FAILED_PROVISION in states(world)), dump(world)
    late = next(row for row in world.rows(live=False) if row.state is State.FAILED_PROVISION)
    assert late.why == f"asked {ASK_TRIES} times: fake: 500"
    from skyfog_pool.provider.base import Order

    world.cloud.make(Order("detect", late.id, 1, late.token, late.zone, late.market))
    assert world.steps(60, lambda: world.at_target(3)), dump(world)


def test_a_machine_that_never_runs_is_given_up(world: World) -> None:
    world.cloud.slow = True
    world.cloud.preempt(running(world)[0].id)
    world.steps(61)
    assert State.FAILED_PROVISION in states(world)
    assert "did not run within 60 s" in next(r.why for r in world.rows(live=False) if r.state is State.FAILED_PROVISION)
    world.cloud.slow = False
    world.cloud.settle()
    world.cloud.run()
    assert world.steps(120, lambda: world.at_target(3)), dump(world)


def test_a_machine_that_the_provider_does_not_take_back_is_asked_back_until_it_does(world: World) -> None:
    keeper = world.keeper
    assert keeper is not None
    replica = world.rows()[0]
    world.cloud.outage = "error"
    world.carry_out(keeper.on_runner(replica.id, report.Status(1, "ended", exit_status=1), world.now_ns))
    world.cloud.outage = ""
    assert world.rows()[0].state is State.FAILED_CLEANUP
    assert world.rows()[0].why == "fake: error"
    assert replica.instance in {machine.id for machine in world.cloud.alive}
    assert world.steps(60, lambda: world.at_target(3)), dump(world)


def test_a_service_that_ends_has_failed_and_a_draining_one_is_done(world: World) -> None:
    keeper = world.keeper
    assert keeper is not None
    first, second, _ = world.rows()
    world.carry_out(keeper.on_runner(first.id, report.Status(1, "ended", exit_status=3), world.now_ns))
    assert world.rows(live=False)[0].why == "ended with status 3"
    world.ask_for(spec_of(policy={"min_replicas": 1}))
    assert world.steps(60, lambda: world.at_target(1)), dump(world)
    assert states(world)[second.id - 1] in {State.TERMINATED, State.READY}
    assert states(world)[first.id - 1] is State.FAILED


def test_a_notice_starts_a_replacement_before_the_machine_goes(world: World) -> None:
    keeper = world.keeper
    assert keeper is not None
    doomed = world.rows()[0]
    notice = report.RunnerNotice("interruption", 20.0)
    world.carry_out(keeper.on_runner(doomed.id, report.Status(1, "draining", notice), world.now_ns))
    assert len([row for row in world.rows() if row.state is not State.DRAINING]) == 3
    assert world.rows()[0].state is State.DRAINING
    # told again: nothing more
    assert keeper.on_runner(doomed.id, report.Status(2, "draining", notice), world.now_ns) == []
    assert len(running(world)) == 4
    assert world.steps(60, lambda: world.at_target(3))


def test_a_notice_of_the_api_counts_as_one_of_the_machine(world: World) -> None:
    world.cloud.notice(running(world)[0].id)
    world.steps(1)
    assert State.DRAINING in states(world)


def test_an_interruption_told_by_the_api_after_a_rebalance_is_heard(world: World) -> None:
    keeper = world.keeper
    assert keeper is not None
    row = world.rows()[0]
    maybe = report.RunnerNotice("rebalance")
    world.carry_out(keeper.on_runner(row.id, report.Status(1, "ready", maybe), world.now_ns))
    world.cloud.notice(row.instance)
    world.steps(1)
    who = keeper.policy.replicas.get(row.id)
    assert who is None or (who.notice is not None and who.notice.kind == "interruption")
    # the runner, which still says the same, takes nothing back
    assert keeper.on_runner(row.id, report.Status(2, "ready", maybe), world.now_ns) == []


def test_with_serve_the_time_that_a_runner_or_the_api_tells_is_the_policys(world: World) -> None:
    """Nor is it lost with the controller."""
    world.ask_for(spec_of(policy={"on_notice": "serve", "drain_seconds": 10.0}))
    world.steps(2)
    keeper = world.keeper
    assert keeper is not None
    by_runner, by_api, _ = world.rows()
    world.cloud.slow = True  # their replacements take long
    notice = report.RunnerNotice("interruption", 120.0)
    world.carry_out(keeper.on_runner(by_runner.id, report.Status(1, "ready", notice), world.now_ns))
    world.cloud.notice(by_api.instance, goes_unix_s=world.now_ns / S + 120.0)
    told_ns = world.now_ns
    world.steps(1)
    assert keeper.policy.view().ready() == 1
    assert [work.who.takes_requests for work in keeper.work.values()][:3] == [True, True, True]
    world.kill()
    for row in (by_runner, by_api):
        world.steps(1)
        assert world.keeper is not None
        who = world.keeper.policy.replicas[row.id]
        assert who.state is State.READY
        assert who.notice is not None
        assert who.notice.at_ns == pytest.approx(told_ns + 120 * S, abs=3 * S)
    assert world.steps(115, lambda: world.rows()[0].state is State.DRAINING)
    assert 105 * S < world.now_ns - told_ns < 115 * S
    world.cloud.slow = False
    world.cloud.run()


def test_one_that_says_that_it_has_drained_by_itself_is_given_back(world: World) -> None:
    world.ask_for(spec_of(policy={"on_notice": "serve"}))
    world.steps(2)
    keeper = world.keeper
    assert keeper is not None
    row = world.rows()[0]
    notice = report.RunnerNotice("interruption", 120.0)
    world.carry_out(keeper.on_runner(row.id, report.Status(1, "ready", notice), world.now_ns))
    assert keeper.work[row.id].who.state is State.READY
    world.carry_out(keeper.on_runner(row.id, report.Status(2, "drained", notice), world.now_ns))
    assert keeper.policy.replicas[row.id].state is State.SHUTTING_DOWN


def test_costs_are_of_every_machine_second_and_go_on_over_restarts(world: World) -> None:
    world.steps(100)
    assert world.keeper is not None
    before = world.keeper.journal.unwritten(work.row for work in world.keeper.work.values())
    world.kill()
    world.now_ns += 50 * S  # nobody looks, and the machines cost
    world.boot = "second"  # the machine of the controller was started anew
    world.steps(10)
    rows = world.rows(live=False)
    seconds = sum(row.seconds for row in rows)
    assert before.seconds >= 0
    lived = sum((row.ended_unix or world.now_ns / S) - (row.started_unix or 0.0) for row in rows)
    assert seconds == pytest.approx(lived, abs=3 * 6)  # as of the last time that it was written down
    usd = sum(row.seconds * row.price_per_hour / 3_600 for row in rows)
    assert sum(row.usd for row in rows) == pytest.approx(usd)


def test_down_is_done_by_a_controller_that_was_not_there_when_it_was_wished(world: World) -> None:
    world.kill()
    world.take_down()
    assert world.steps(60, world.is_down)
    world.ask_for(spec_of())  # and up again, with what it had learnt
    assert world.steps(30, lambda: world.at_target(3))
    assert min(row.id for row in world.rows()) > 3


def test_up_while_it_goes_down_turns_it_round(world: World) -> None:
    world.take_down()
    world.steps(1)
    world.ask_for(spec_of())
    assert world.steps(60, lambda: world.at_target(3)), dump(world)


def test_a_revision_that_came_while_nobody_looked_is_taken_up(world: World) -> None:
    world.kill()
    world.ask_for(spec_of(run="newer", policy={"min_replicas": 2}))
    assert world.steps(100, lambda: world.at_target(2) and all(row.version == 2 for row in world.rows())), dump(world)


def test_back_to_the_older_version_in_the_middle(world: World) -> None:
    world.ask_for(spec_of(run="newer"))
    world.steps(2)
    world.ask_for(spec_of())
    assert world.steps(100, lambda: world.at_target(3)), dump(world)
    assert {row.version for row in world.rows()} == {1}


def test_prices_that_jump_are_billed_and_nothing_is_restarted(world: World) -> None:
    before = {machine.id for machine in running(world)}
    for zone in world.cloud.zones:
        world.cloud.prices[zone] = Prices(9.0, 10.0)
    world.steps(20)
    assert {machine.id for machine in running(world)} == before


def test_a_token_is_of_this_pool_only_and_what_is_told_of_the_gone_is_ignored(world: World) -> None:
    keeper = world.keeper
    assert keeper is not None
    for key in (ReplicaKey("zone-a", "other-1"), ReplicaKey("zone-a", "detect-99"), ReplicaKey("zone-a", "detect")):
        assert keeper.on_token(key, True, world.now_ns) == []
        assert keeper.on_token(key, False, world.now_ns) == []
    assert keeper.on_probe(99, True, "", world.now_ns) == []
    assert keeper.on_runner(99, report.Status(1, "ready"), world.now_ns) == []
    assert keeper.on_launch_refused(99, "capacity", "none", world.now_ns) == []
    assert keeper.on_launch_unknown(99, "none", world.now_ns) == []
    assert keeper.on_given_back(99, "i-99", "", world.now_ns) == []
    world.steps(2)
    assert world.at_target(3)
