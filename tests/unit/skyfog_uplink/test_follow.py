"""Which plan is in force: the newest, until nobody tells it any more; and never one that cannot be meant."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from skyfog_core.errors import InvalidReply
from skyfog_core.units import MS, S
from skyfog_uplink.policy.follow import PlanFollower, floor_plan
from skyfog_uplink.policy.model import FLOOR
from skyfog_uplink.policy.plan import Plan
from support.uplink import grant, option, plan, service, table

TABLE = table(service("a", 150, 10, option("small"), option("large", 50_000)), service("b"))
GOOD = plan(grant("a", 4e6, 1), grant("b", 2e6), number=7)


def follower() -> PlanFollower:
    return PlanFollower(TABLE, 1_500 * MS, now_ns=0)


def test_before_the_first_plan_every_service_is_on_the_floor() -> None:
    followed = follower()
    assert [grant.option for grant in followed.plan.grants] == [FLOOR, FLOOR]
    followed.plan.check()
    assert followed.age_ns(5) is None
    assert followed.next_timer_ns() is None


def test_the_newest_plan_is_in_force_and_the_same_one_again_changes_nothing() -> None:
    followed = follower()
    assert followed.on_plan(GOOD, 0)
    assert followed.plan == GOOD
    assert not followed.on_plan(replace(GOOD, made_ns=5, because="period"), 100)
    assert followed.on_plan(replace(GOOD, number=8), 200)
    assert followed.age_ns(300) == 100


def test_the_plan_of_an_allocator_that_began_anew_counts_though_its_number_is_lower() -> None:
    followed = follower()
    followed.on_plan(GOOD, 0)
    assert followed.on_plan(replace(GOOD, number=1), 10)


def test_a_plan_that_nobody_repeats_gives_way_to_the_floor_in_time_and_only_once() -> None:
    followed = follower()
    followed.on_plan(GOOD, 0)
    followed.on_plan(GOOD, 1 * S)
    assert not followed.on_timer(2 * S + 499 * MS)
    assert followed.next_timer_ns() == 2 * S + 500 * MS
    assert followed.on_timer(2 * S + 500 * MS)
    assert [grant.option for grant in followed.plan.grants] == [FLOOR, FLOOR]
    assert not followed.on_timer(9 * S)
    assert followed.on_plan(GOOD, 10 * S), "it comes back"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (plan(grant("a")), "the plan is for a, the table test has a, b"),
        (plan(grant("b"), grant("a")), "need the same file"),
        (plan(), "the plan is for nobody"),
        (plan(grant("a", option=2), grant("b")), "a: option 2 or probe -1 is not in the table"),
        (plan(grant("a", option=-2), grant("b")), "a: option -2"),
        (plan(replace(grant("a"), probe=9), grant("b")), "probe 9"),
        (plan(grant("a", math.nan), grant("b")), "no rates"),
        (plan(grant("a", math.inf), grant("b")), "no rates"),
        (plan(replace(grant("a"), probe_bps=-1.0), grant("b")), "no rates"),
        (replace(GOOD, budget_bps=1e6), "more than its budget of 1000000"),
        (plan(grant("a", 1e6, FLOOR), grant("b")), "more than its budget"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused_and_the_one_before_goes_on(wrong: Plan, why: str) -> None:
    followed = follower()
    followed.on_plan(GOOD, 0)
    with pytest.raises(InvalidReply, match=why):
        followed.on_plan(wrong, 1_000 * MS)
    assert followed.plan == GOOD
    assert followed.age_ns(1_000 * MS) == 1_000 * MS, "a refused plan does not count as a word of the allocator"


def test_the_floor_is_worth_its_models() -> None:
    assert floor_plan(TABLE, 3).utility == pytest.approx(0.6)
