"""A new version rolls out with surge, never below the target."""

from __future__ import annotations

import pytest

from skyfog_pool.lifecycle import State
from skyfog_pool.policy.baselines import OnDemand
from skyfog_pool.policy.view import Plan, Start, View
from support.kind_cloud import KindCloud, ended, launches


def play(cloud: KindCloud, least_ready: int, limit: int = 200) -> int:
    """One step of one replica at a time until all are of the version. Returns the most replicas of use."""
    most = 0
    for _ in range(limit):
        replicas = list(cloud.policy.replicas.values())
        moving = [who for who in replicas if who.state is not State.READY]
        if not moving and all(who.version == cloud.policy.version for who in replicas):
            return most
        cloud.next(moving[0])
        assert cloud.policy.view().ready() >= least_ready
        most = max(most, cloud.policy.ledger.held())
    raise AssertionError("never over")


@pytest.mark.parametrize("surge", [1, 2, 4])
def test_a_new_version_replaces_the_old_never_below_the_target(surge: int) -> None:
    cloud = KindCloud(target=4, surge=surge)
    cloud.ready()
    assert len(launches(cloud.do("on_spec", cloud.config, True, 2))) == surge
    assert play(cloud, least_ready=4) == 4 + surge
    assert cloud.where() == ["a", "a", "b", "c"]


def test_on_demand_stand_ins_are_not_called_for_by_a_rollout() -> None:
    cloud = KindCloud(min_replicas=3, num_overprovision=1)
    cloud.ready()
    cloud.do("on_spec", cloud.config, True, 2)
    play(cloud, least_ready=3)
    assert all(market == "spot" for _, market in launches(cloud.asked)[7:])


def test_back_to_the_older_version_in_mid_update() -> None:
    cloud = KindCloud(target=3)
    cloud.ready()
    cloud.do("on_spec", cloud.config, True, 2)
    cloud.do("on_ready", 4)
    cloud.ready()  # rolls on, one by one
    cloud.do("on_spec", cloud.config, True, 3)
    actions = cloud.do("on_spec", cloud.config, True, 2)
    assert ended(actions) == [max(cloud.policy.replicas)], "what was on its way to version 3"
    cloud.ready()
    assert {who.version for who in cloud.policy.replicas.values()} == {2}


def test_a_version_that_fails_leaves_the_old_one_serving() -> None:
    cloud = KindCloud(target=2)
    cloud.ready()
    cloud.do("on_spec", cloud.config, True, 2)
    for _ in range(50):
        for who in list(cloud.policy.replicas.values()):
            if who.version == 2:
                cloud.do("on_started", who.id)
                cloud.do("on_failed", who.id, State.FAILED_INITIAL_DELAY)
                cloud.do("on_terminated", who.id)
        cloud.wait(10)
    assert cloud.policy.view().ready() == 2
    assert len(launches(cloud.asked)) < 20
    assert "version 2 failed" in cloud.policy.holding


def test_the_market_takes_both_of_a_pair() -> None:
    cloud = KindCloud(target=2)
    cloud.ready()
    cloud.do("on_spec", cloud.config, True, 2)
    older = cloud.policy.replicas[3].replaces
    assert older is not None
    assert len(launches(cloud.do("on_preempted", older))) == 1, "of the pair one is on its way: the next is rolled out"
    assert cloud.policy.replicas[3].replaces is None
    assert cloud.policy.replicas[4].replaces == 3 - older
    cloud.do("on_preempted", 3)
    cloud.ready()
    assert {who.version for who in cloud.policy.replicas.values()} == {2}
    assert len(cloud.policy.replicas) == 2


def test_what_is_not_up_yet_is_not_waited_for() -> None:
    cloud = KindCloud(target=2)
    actions = cloud.do("on_spec", cloud.config, True, 2)
    assert sorted(ended(actions)) == [1, 2]
    assert len(launches(actions)) == 2


def test_another_policy_for_the_same_version_applies_live() -> None:
    cloud = KindCloud(min_replicas=2, dynamic_ondemand_fallback=False, num_overprovision=0)
    cloud.ready()
    more = cloud.config.model_copy(update={"min_replicas": 3})
    assert len(launches(cloud.do("on_spec", more, True, 1))) == 1
    cloud.ready()
    assert len(ended(cloud.do("on_spec", cloud.config, True, 1))) == 1
    cloud.ready()
    assert {who.version for who in cloud.policy.replicas.values()} == {1}


def test_where_the_bound_leaves_no_room_for_a_new_one_a_surplus_old_one_goes_first() -> None:
    class Hoarder(OnDemand):
        """Keeps as many as may be."""

        def decide(self, view: View, now_ns: int) -> Plan:
            return Plan((Start("a", "spot", "more"),) * 10)

    cloud = KindCloud(Hoarder(()), target=2)
    cloud.ready()
    assert len(cloud.policy.replicas) == cloud.policy.most_held == 3
    assert len(ended(cloud.do("on_spec", cloud.config, True, 2))) == 1
    play(cloud, least_ready=2)
