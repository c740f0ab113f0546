"""`on_notice: serve`: a replica that the cloud is about to take serves until its last moment, or is relieved."""

from __future__ import annotations

from typing import Any

import pytest

from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.actions import Action, Drain, Terminate
from skyfog_pool.policy.doomed import SAFETY_S, serves_for_s
from skyfog_pool.policy.market import Notice
from skyfog_pool.policy.skyfog import Skyfog
from support.kind_cloud import KindCloud, ended, launches


def told(left_s: float | None = 120.0, target: int = 2, **config: Any) -> tuple[KindCloud, list[Action]]:
    """Replica 1 of those that are ready hears its notice."""
    cloud = KindCloud(target=target, **({"on_notice": "serve", "drain_seconds": 30} | config))
    cloud.ready()
    at_ns = None if left_s is None else cloud.now_ns + round(left_s * S)
    return cloud, cloud.do("on_notice", 1, Notice("interruption", at_ns))


def test_it_is_replaced_in_the_same_turn_and_serves_until_its_last_moment() -> None:
    cloud, actions = told()
    assert launches(actions) == [("a", "spot")]
    assert not ended(actions)
    who = cloud.policy.replicas[1]
    assert who.takes_requests
    assert not who.counts
    assert cloud.policy.view().ready() == 1, "it is not what is wanted"
    assert cloud.do("on_notice", 1, Notice("interruption", cloud.now_ns + 10 * S)) == []
    assert not cloud.wait(89.9)
    assert cloud.wait(0.2) == [Drain(1, 30 * S, "the cloud takes its machine")]
    assert Terminate(1, "its time to drain is over") in cloud.wait(30)


def test_it_is_relieved_when_as_many_others_are_ready_as_are_wanted() -> None:
    cloud, _ = told()
    cloud.wait(20)
    cloud.do("on_started", 3)
    actions = cloud.do("on_ready", 3)
    assert actions == [Drain(1, 30 * S, "the cloud takes its machine, and enough others are ready")]
    assert cloud.do("on_drained", 1) == [Terminate(1, "drained")]


def test_of_several_the_one_that_goes_first_is_relieved_first() -> None:
    cloud, _ = told(100, target=3)
    cloud.do("on_notice", 2, Notice("interruption", cloud.now_ns + 60 * S))
    assert ended(cloud.do("on_ready", 4)) == [2]
    assert ended(cloud.do("on_ready", 5)) == [1]


@pytest.mark.parametrize("left_s", [None, 0.0, 20.0, 30.0])
def test_without_a_time_or_with_less_than_it_needs_it_drains_at_once(left_s: float | None) -> None:
    _, actions = told(left_s)
    assert ended(actions) == [1]
    assert len(launches(actions)) == 1


def test_without_time_to_drain_it_is_given_back_some_seconds_before_its_machine_goes() -> None:
    cloud, _ = told(drain_seconds=0)
    assert not cloud.wait(120 - SAFETY_S - 0.1)
    assert cloud.wait(0.2) == [Terminate(1, "the cloud takes its machine")]


def test_one_that_is_not_up_yet_is_given_back_at_once() -> None:
    cloud = KindCloud(target=1, on_notice="serve")
    cloud.do("on_started", 1)
    assert ended(cloud.do("on_notice", 1, Notice("interruption", cloud.now_ns + 120 * S))) == [1]


def test_one_that_drained_by_itself_is_given_back_and_one_that_fails_counts_as_no_failure() -> None:
    cloud, _ = told()
    assert cloud.do("on_drained", 2) == [], "nobody takes that one"
    assert cloud.do("on_drained", 1) == [Terminate(1, "drained")]
    cloud, _ = told()
    assert ended(cloud.do("on_failed", 1, State.FAILED_PROBING)) == [1]
    assert cloud.policy.failing.row == 0


def test_it_goes_without_another_word_when_its_machine_does() -> None:
    cloud, _ = told()
    assert cloud.do("on_preempted", 1) == []
    assert 1 not in cloud.policy.replicas


def test_it_is_never_the_reason_to_end_another() -> None:
    """What is ready besides it is what will be left."""
    cloud, _ = told(target=2)
    assert ended(cloud.do("on_spec", cloud.config, False, 1)) == [3]  # no spot machines any more; not up yet
    assert ended(cloud.do("on_ready", 4)) == [1], "and not 2"
    assert ended(cloud.do("on_ready", 5)) == [2]


def test_a_new_file_that_has_it_drain_holds_at_once() -> None:
    cloud, _ = told()
    actions = cloud.do("on_spec", cloud.config.model_copy(update={"on_notice": "drain"}), True, 1)
    assert ended(actions) == [1]


def test_a_pool_that_goes_down_drains_it() -> None:
    cloud, _ = told()
    assert Drain(1, 30 * S, "the pool goes down") in cloud.do("down")


def test_how_long_it_serves() -> None:
    assert serves_for_s(120.0, 30.0) == 90.0
    assert serves_for_s(120.0, 0.0) == 120.0 - SAFETY_S
    assert serves_for_s(20.0, 30.0) == 0.0
    assert serves_for_s(None, 0.0) == 0.0


@pytest.mark.parametrize("on_notice", ["drain", "serve"])
def test_skyfog_counts_no_time_below_target_while_it_serves(on_notice: str) -> None:
    cloud = KindCloud("skyfog", min_replicas=2, num_overprovision=0, on_notice=on_notice, drain_seconds=30)
    cloud.ready(183)
    cloud.wait(600)
    cloud.ready()
    placement = cloud.policy.placement
    assert isinstance(placement, Skyfog)
    told = next(who.id for who in cloud.policy.replicas.values() if who.market == "spot")
    cloud.do("on_notice", told, Notice("interruption", cloud.now_ns + 120 * S))
    assert placement.learnt.allowance is not None
    before = placement.learnt.allowance.care
    cloud.wait(80)
    cloud.do("on_timer")
    assert (placement.learnt.allowance.care > before) == (on_notice == "drain")
