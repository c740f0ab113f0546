"""The pool's policy: one event after the other."""

from __future__ import annotations

import pytest

from skyfog_core.units import S
from skyfog_pool.lifecycle import ENDED, NEXT, BadTransition, State, step
from skyfog_pool.policy.actions import Drain, Terminate
from skyfog_pool.policy.market import Notice, Prices
from support.kind_cloud import PRICES, KindCloud, ended, launches


def test_nothing_is_launched_before_the_first_prices() -> None:
    cloud = KindCloud(target=2, prices=None)
    assert cloud.do("on_timer") == []
    assert launches(cloud.do("on_prices", PRICES)) == [("a", "spot"), ("b", "spot")]


def test_a_zone_without_prices_is_not_used_and_an_unknown_zone_is_ignored() -> None:
    cloud = KindCloud(target=2, prices={"b": PRICES["b"], "nowhere": Prices(0.01, 0.01)})
    assert launches(cloud.asked) == [("b", "spot"), ("b", "spot")]


def test_an_interruption_is_replaced_at_once_and_drains_for_no_longer_than_its_machine_lives() -> None:
    cloud = KindCloud(target=2, drain_seconds=30)
    cloud.ready()
    actions = cloud.do("on_notice", 1, Notice("interruption", cloud.now_ns + 10 * S))
    assert Drain(1, 10 * S, "the cloud takes its machine") in actions
    assert len(launches(actions)) == 1
    assert cloud.do("on_notice", 1, Notice("interruption", cloud.now_ns + 9 * S)) == []
    assert cloud.do("on_preempted", 1) == []


def test_a_replica_that_is_not_up_yet_is_given_back_on_its_notice() -> None:
    cloud = KindCloud(target=1)
    cloud.do("on_started", 1)
    actions = cloud.do("on_notice", 1, Notice("interruption"))
    assert isinstance(actions[0], Terminate)
    assert len(launches(actions)) == 1


def test_a_recommendation_alone_changes_nothing() -> None:
    cloud = KindCloud(target=2)
    cloud.ready()
    assert cloud.do("on_notice", 1, Notice("rebalance")) == []
    assert ended(cloud.do("on_notice", 1, Notice("interruption"))) == [1]


def test_a_drain_has_an_end() -> None:
    cloud = KindCloud(target=1, drain_seconds=20)
    cloud.ready()
    cloud.do("on_notice", 1, Notice("interruption"))
    assert not cloud.wait(19)
    assert Terminate(1, "its time to drain is over") in cloud.wait(2)


def test_without_time_to_drain_a_machine_is_given_back_at_once() -> None:
    cloud = KindCloud(target=1, drain_seconds=0)
    cloud.ready()
    assert cloud.do("down") == [Terminate(1, "the pool goes down")]


def test_events_of_others_late_ones_and_repeated_ones_are_ignored() -> None:
    cloud = KindCloud(target=1)
    cloud.ready()
    for event in ("on_ready", "on_started", "on_drained", "on_cleanup_failed", "on_provisioning"):
        assert cloud.do(event, 1) == [], event
        assert cloud.do(event, 77) == [], event
    assert cloud.do("on_launch_failed", 1, "capacity") == []
    assert cloud.do("on_failed", 77, State.FAILED) == []
    assert cloud.states() == {1: State.READY}
    assert cloud.policy.ledger.ignored == 12


def test_news_may_skip_what_nobody_told() -> None:
    cloud = KindCloud(target=1)
    assert cloud.do("on_ready", 1) == []
    assert cloud.states() == {1: State.READY}
    assert cloud.policy.replicas[1].started_ns == 0


def test_a_failed_replica_gives_its_machine_back_before_its_end() -> None:
    cloud = KindCloud(target=1)
    cloud.ready()
    actions = cloud.do("on_failed", 1, State.FAILED_PROBING)
    who = cloud.policy.replicas[1]
    assert ended(actions) == [1]
    assert len(launches(actions)) == 1, "the first failure is replaced at once"
    assert who.state is State.SHUTTING_DOWN
    cloud.do("on_terminated", 1)
    assert who.state is State.FAILED_PROBING
    assert 1 not in cloud.policy.replicas


def test_a_service_that_keeps_failing_is_not_started_in_a_tight_loop() -> None:
    cloud = KindCloud(target=1)
    began_ns, starts = cloud.now_ns, 0
    while cloud.now_ns - began_ns < 3_600 * S:
        cloud.wait(1)
        for who in list(cloud.policy.replicas.values()):
            cloud.do("on_started", who.id)
            cloud.do("on_failed", who.id, State.FAILED)
            cloud.do("on_terminated", who.id)
            starts += 1
    assert 8 <= starts <= 14
    assert "failed" in cloud.policy.holding
    assert "in a row" in cloud.policy.holding


def test_a_failure_after_long_service_begins_no_row() -> None:
    cloud = KindCloud(target=1)
    for _ in range(5):
        cloud.ready(seconds=3_600)
        (replica,) = cloud.policy.replicas
        cloud.wait(3_600)
        assert launches(cloud.do("on_failed", replica, State.FAILED))


@pytest.mark.parametrize(("why", "least_s", "most_s"), [("capacity", 1, 60), ("error", 1, 300), ("quota", 200, 3_600)])
def test_a_launch_that_fails_is_tried_elsewhere_and_there_again_after_a_pause(
    why: str, least_s: float, most_s: float
) -> None:
    cloud = KindCloud(target=1, prices={"a": PRICES["a"]})
    for _ in range(8):
        (replica,) = cloud.policy.replicas
        assert not launches(cloud.do("on_launch_failed", replica, why))
        assert why in cloud.policy.holding
        assert not launches(cloud.wait(least_s - 0.1))
        assert launches(cloud.wait(most_s))
    cloud.do("on_prices", PRICES)
    (replica,) = cloud.policy.replicas
    (zone,) = {zone for zone, _ in launches(cloud.do("on_launch_failed", replica, why))}
    assert zone != "a"


def test_launches_that_were_under_way_together_fail_as_one() -> None:
    cloud = KindCloud(target=5, prices={"a": PRICES["a"]})
    cloud.wait(1)
    for replica in range(1, 6):
        assert not launches(cloud.do("on_launch_failed", replica, "quota"))
    assert not launches(cloud.wait(299))
    assert len(launches(cloud.wait(2))) == 5, "five minutes, not an hour"


def test_replicas_that_fail_together_fail_as_one() -> None:
    cloud = KindCloud(target=4)
    cloud.ready()
    cloud.wait(5)
    for replica in range(1, 5):
        assert len(launches(cloud.do("on_failed", replica, State.FAILED))) == 1
    cloud.wait(5)
    assert not launches(cloud.do("on_failed", 5, State.FAILED)), "in a row"


def test_a_rejected_order_is_repeated_only_under_another_spec() -> None:
    cloud = KindCloud(target=1, prices={"a": PRICES["a"]})
    cloud.do("on_launch_failed", 1, "rejected")
    assert not launches(cloud.wait(100_000))
    assert cloud.policy.next_timer_ns() is None
    assert launches(cloud.do("on_spec", cloud.config, True, 2))


def test_a_machine_that_is_not_taken_back_is_asked_back_for_ever_and_costs() -> None:
    cloud = KindCloud(target=1)
    cloud.ready()
    cloud.do("down")
    cloud.do("on_drained", 1)
    for tries in range(1, 12):
        assert cloud.do("on_cleanup_failed", 1) == []
        assert cloud.states()[1] is State.FAILED_CLEANUP
        assert cloud.policy.replicas[1].cleanups == tries
        assert ended(cloud.wait(300)) == [1]
    cloud.do("on_terminated", 1)
    assert not cloud.policy.replicas
    assert cloud.policy.ledger.books.total().usd == pytest.approx(0.30 * 11 * 300 / 3_600)


def test_a_provider_that_never_says_that_a_machine_is_gone_is_asked_again() -> None:
    cloud = KindCloud(target=1)
    cloud.ready()
    cloud.do("down")
    cloud.do("on_drained", 1)
    assert not ended(cloud.wait(599))
    assert ended(cloud.wait(2)) == [1]


def test_an_unknown_replica_is_replaced_and_one_too_many_goes_when_it_turns_up() -> None:
    cloud = KindCloud(target=2)
    cloud.ready()
    assert len(launches(cloud.do("on_unknown", 1))) == 1
    actions = cloud.do("on_ready", 1)
    assert ended(actions) == [3], "the launch under way, not one that is ready"


def test_a_machine_that_comes_after_it_was_given_up_is_paid_for() -> None:
    cloud = KindCloud(target=1)
    cloud.do("down")
    cloud.do("on_started", 1)
    cloud.wait(3_600)
    cloud.do("on_terminated", 1)
    assert cloud.policy.ledger.books.total().usd == pytest.approx(0.30)


def test_costs_follow_the_price_and_equal_the_sum_over_replicas() -> None:
    cloud = KindCloud(target=1, prices={"a": Prices(1.0, 2.0)})
    cloud.ready()
    cloud.wait(3_600)
    cloud.do("on_prices", {"a": Prices(3.0, 2.0)})
    cloud.wait(1_800)
    cloud.do("on_prices", {"a": Prices(float("inf"), 2.0)})  # not offered any more: what runs costs what it did
    cloud.wait(1_800)
    cloud.do("on_preempted", 1)
    total = cloud.policy.ledger.books.total()
    assert total.usd == pytest.approx(1.0 + 1.5 + 1.5)
    assert total.machine_ns == 7_200 * S
    cloud.policy.ledger.books.spent["spot", "a"].usd += 0.01
    with pytest.raises(AssertionError):
        cloud.policy.check()


def test_never_more_launches_under_way_than_allowed() -> None:
    cloud = KindCloud(target=10, max_launching=3)
    assert len(cloud.policy.replicas) == 3
    assert "max_launching 3" in cloud.policy.holding
    cloud.do("on_ready", 1)
    assert len(cloud.policy.replicas) == 4


def test_never_more_than_the_bound_whatever_a_placement_wants() -> None:
    from skyfog_pool.policy.baselines import OnDemand
    from skyfog_pool.policy.view import Plan, Start, View

    class Greedy(OnDemand):
        def decide(self, view: View, now_ns: int) -> Plan:
            return Plan((Start("a", "spot", "more"),) * 100)

    cloud = KindCloud(Greedy(()), target=3, max_launching=1_000)
    for _ in range(5):
        for replica in list(cloud.policy.replicas):
            cloud.do("on_failed", replica, State.FAILED)
    assert cloud.policy.most_held == 4
    assert len(cloud.policy.replicas) <= 8


def test_down_and_up_again() -> None:
    cloud = KindCloud(target=2)
    cloud.do("on_ready", 1)
    actions = cloud.do("down")
    assert [type(action) for action in actions] == [Drain, Terminate]
    assert cloud.do("down") == []
    assert cloud.do("on_timer") == []
    cloud.do("on_drained", 1)
    cloud.do("on_terminated", 1)
    cloud.do("on_terminated", 2)
    assert not cloud.policy.replicas
    assert cloud.policy.next_timer_ns() is None
    assert len(launches(cloud.do("on_spec", cloud.config, True, 1))) == 2


def test_no_ready_replica_goes_before_what_takes_its_place() -> None:
    cloud = KindCloud(target=2)
    cloud.ready()
    actions = cloud.do("on_spec", cloud.config, False, 1)  # no spot machines any more
    assert launches(actions) == [("a", "on_demand")], "within the surge"
    assert not ended(actions)
    actions = cloud.do("on_ready", 3)
    assert len(ended(actions)) == 1
    cloud.ready()
    assert cloud.where() in (["A", "A"], ["A", "B"])


def test_the_table_of_transitions() -> None:
    assert step(State.READY, State.DRAINING) is State.DRAINING
    with pytest.raises(BadTransition):
        step(State.PENDING, State.READY)
    assert not ENDED & NEXT.keys()
