"""Lifetimes, room, risk and allowance: the parts that our placement decides by."""

from __future__ import annotations

import math
from random import Random

import pytest

from skyfog_core.units import S
from skyfog_pool.policy.allowance import LEAST, MOST, Allowance
from skyfog_pool.policy.lifetime import ELSEWHERE, SAME_REGION, Contagion, Lifetimes
from skyfog_pool.policy.market import Zone
from skyfog_pool.policy.risk import Risk
from skyfog_pool.policy.room import PROBE_MAX_NS, PROBE_MIN_NS, Room

HOUR_S = 3_600.0
A, B, C = Zone("a", "east"), Zone("b", "east"), Zone("c", "west")


def risk(hazards: dict[str, list[float]], event_usd: float = 10.0, od_price: float = 3.0, target: int = 4) -> Risk:
    return Risk(dict.fromkeys(hazards, 1.0), od_price, hazards, event_usd, 0.05, 0.05, target)


def test_a_slot_just_come_back_is_likelier_lost_than_one_that_stood() -> None:
    life = Lifetimes()
    life.lose(1)
    young = life.hazards(1)[1]
    life.pass_time(6 * HOUR_S, 1, is_open=True)
    assert life.hazards(1)[1] < young / 3
    assert life.hazards(1, ahead_s=HOUR_S)[1] < life.hazards(1)[1], "on average over what is ahead, it gets better"


@pytest.mark.parametrize("mean_h", [1.0, 8.0])
def test_the_rate_of_an_exponential_zone_is_found_though_half_of_the_lives_are_censored(mean_h: float) -> None:
    random, life, fair = Random(7), Lifetimes(), 0.0
    for _ in range(300):
        lives_h, returned_h = random.expovariate(1 / mean_h), random.expovariate(1 / mean_h)
        life.pass_time(min(lives_h, returned_h) * HOUR_S, 1, is_open=True)
        fair = life.hazards(1)[1] if fair == 0.0 else 0.98 * fair + 0.02 * life.hazards(1)[1]
        if lives_h < returned_h:
            life.lose(1)
    assert fair == pytest.approx(1 / mean_h, rel=0.6)
    # Taking every end for a loss would double it; taking none of the returned lives into account as well.


def test_losses_fade() -> None:
    life = Lifetimes()
    for _ in range(10):
        life.pass_time(600, 1, is_open=True)
        life.lose(1)
    bad = life.slots[0].alpha
    life.pass_time(60 * 86_400, 0, is_open=False)
    assert life.slots[0].alpha < bad / 1.3


def test_more_machines_in_a_zone_are_never_thought_safer() -> None:
    life = Lifetimes()
    life.pass_time(HOUR_S, 4, is_open=True)
    life.lose(4)
    rates = life.hazards(6)
    assert rates == sorted(rates)
    assert len(rates) == 7
    assert rates[4] > 2 * rates[3]


def test_contagion_is_learnt_from_what_followed() -> None:
    contagion = Contagion()
    assert contagion.chance(A, B) == SAME_REGION
    assert contagion.chance(A, C) == ELSEWHERE
    for _ in range(20):
        contagion.watch("a", ["b", "c"])
        contagion.follow("a", "c")
    assert contagion.chance(A, C) > 0.8
    assert contagion.chance(A, B) < SAME_REGION / 3


def test_room_opens_again_with_a_machine_beyond_the_ceiling() -> None:
    room = Room()
    assert room.admits(100, 0)
    room.shut(2, 0)
    assert room.admits(1, 0)
    assert not room.admits(2, 0)
    assert room.admits(2, PROBE_MIN_NS), "one more may be tried"
    assert not room.admits(3, PROBE_MIN_NS), "and no second one beside it"
    room.came(2)
    assert room.ceiling == 2
    room.came(3)
    assert room.ceiling is None


def test_the_wait_for_room_grows_with_the_outage_up_to_a_limit() -> None:
    room, waits = Room(), []
    for hours in (0, 1, 24):
        now_ns = round(hours * HOUR_S * S)
        room.shut(0, now_ns)
        waits.append(room.retry_ns - now_ns)
    assert waits == [PROBE_MIN_NS, 360 * S, PROBE_MAX_NS]


def test_without_spares_few_zones_are_best_and_with_spares_many() -> None:
    pool = risk({"a": [0.0, *[0.2] * 8], "b": [0.0, *[0.2] * 8], "c": [0.0, *[0.2] * 8]}, event_usd=5.0)
    assert pool.usd({"a": 2}, 0) < pool.usd({"a": 1, "b": 1}, 0)
    assert pool.usd({"a": 1, "b": 1, "c": 1}, 1) < pool.usd({"a": 3}, 1)


@pytest.mark.parametrize(("event_usd", "spares"), [(0.1, 0), (100.0, 1)])
def test_spares_are_held_where_what_they_save_is_worth_their_price(event_usd: float, spares: int) -> None:
    pool = risk({name: [0.0, *[0.1] * 12] for name in "abcdef"}, event_usd=event_usd)
    rooms = dict.fromkeys("abcdef", math.inf)
    assert pool.over_provision(rooms, 4, now=0, keep_usd=0.0) == spares


def test_on_demand_stays_while_a_zone_is_young() -> None:
    young, old = risk({"a": [0.0, *[2.0] * 8]}), risk({"a": [0.0, *[0.05] * 8]})
    assert not young.pays_to_move({}, ["a"])
    assert old.pays_to_move({}, ["a"])


def test_a_second_gets_dearer_while_more_is_spent_than_allowed() -> None:
    allowance = Allowance(0.99)
    before = allowance.second_usd(1.0)
    allowance.pass_time(HOUR_S, short=True)
    assert allowance.second_usd(1.0) > before
    for _ in range(400):
        allowance.pass_time(HOUR_S, short=False)
    assert allowance.care == pytest.approx(LEAST)
    for _ in range(400):
        allowance.pass_time(HOUR_S, short=True)
    assert allowance.care == pytest.approx(MOST)


def test_a_refusal_says_that_the_slots_from_there_on_are_not_up() -> None:
    life = Lifetimes()
    life.pass_time(6 * HOUR_S, 2, is_open=True)
    before = life.hazards(2)
    life.refuse(2)
    after = life.hazards(2)
    assert after[1] == before[1]
    assert after[2] > 3 * before[2]
