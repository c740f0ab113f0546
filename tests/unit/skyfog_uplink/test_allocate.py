from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from skyfog_core.config.uplink import AllocatorConfig
from skyfog_core.units import MS, S
from skyfog_uplink.policy.allocate import FLAP_NS, STALE_NS, Allocator
from skyfog_uplink.policy.link import LinkState, down
from skyfog_uplink.policy.model import FLOOR, Scene, Table
from skyfog_uplink.policy.plan import Plan
from support.uplink_links import link, option, service, spread, table

CAMERA = service("camera", option("small", 0.5, 1.0), option("large", 0.6, 4.0))
MAP = service("map", option("only", 0.45, 2.0))
PERIOD_NS = 250 * MS


def allocator(*services: Any, **config: Any) -> Allocator:
    """Nothing is held, and changes are soon forgotten, unless the test says so."""
    given = {"hold_ms": 0, "settle_ms": 1} | config
    return Allocator(table(*(services or (CAMERA, MAP))), AllocatorConfig.model_validate(given))


def planned(made: Plan | None) -> Plan:
    assert made is not None
    made.check()
    return made


def options(plan: Plan | None) -> list[int]:
    return [grant.option for grant in planned(plan).grants]


@pytest.mark.parametrize(
    ("mbps", "wanted"),
    [(0.9, [FLOOR, FLOOR]), (1.1, [0, FLOOR]), (3.2, [0, 0]), (4.2, [1, FLOOR]), (6.2, [1, 0]), (500.0, [1, 0])],
)
def test_the_plan_is_the_best_that_the_link_carries(mbps: float, wanted: list[int]) -> None:
    assert options(allocator().on_link(link(mbps), 0)) == wanted


def test_a_link_that_is_known_badly_is_planned_with_at_its_risk() -> None:
    rates = [0.5, 1.1, 3.2, 4.5, 5, 6, 7, 8, 9, 10]  # at LEVELS: 1 %, 2 %, 5 %, 10 % …
    for risk, wanted in ((0.005, [FLOOR, FLOOR]), (0.02, [0, FLOOR]), (0.05, [0, 0]), (0.1, [1, FLOOR])):
        assert options(allocator(risk=risk).on_link(link(rates), 0)) == wanted


def test_a_careful_budget_is_taken_where_a_bold_one_promises_less() -> None:
    """Large frames that come one time in five too late are worth less than small ones that never do."""
    rates = [1.2] * 4 + [4.5] * 6
    for large, wanted in ((0.51, 0), (0.6, 1)):
        camera = service("camera", option("small", 0.5, 1.0), option("large", large, 4.0))
        assert options(allocator(camera, risk=0.2).on_link(link(rates), 0)) == [wanted]


def test_what_is_left_of_the_budget_is_margin() -> None:
    grant = planned(allocator(CAMERA).on_link(link(6.0), 0)).grants[0]
    assert grant.rate_bps == pytest.approx(6e6)
    assert grant.on_time == pytest.approx(0.99)


def test_rates_stay_within_the_budget_and_reach_what_is_needed() -> None:
    plan = planned(allocator().on_link(link(7.0), 0))
    assert sum(grant.rate_bps for grant in plan.grants) == pytest.approx(plan.budget_bps)
    assert plan.grants[0].rate_bps >= 4e6
    assert plan.grants[1].rate_bps >= 2e6


def test_frames_that_come_faster_than_their_deadlines_need_the_rate_of_their_bytes() -> None:
    """20 frames a second of 0.1 Mbit are 2 Mbit/s, though one alone would be in time at 1 Mbit/s."""
    quick = service("quick", option("small", 0.5, 1.0), rate_hz=20.0)
    assert options(allocator(quick).on_link(link(1.9), 0)) == [FLOOR]
    assert options(allocator(quick).on_link(link(2.1), 0)) == [0]


def test_utility_is_weight_times_accuracy_with_the_floor_for_what_is_late() -> None:
    plan = planned(allocator(replace(CAMERA, weight=2.0), MAP).on_link(link(1.1), 0))
    assert plan.utility == pytest.approx(2.0 * (0.99 * 0.5 + 0.01 * 0.4) + 0.4)  # who knows of the slowest 1 %


def test_bytes_of_ours_that_wait_in_the_network_are_taken_off() -> None:
    assert options(allocator().on_link(link(3.2, queue_ms=50.0), 0)) == [0, FLOOR]


# When it plans


def test_a_plan_comes_each_period() -> None:
    made = allocator()
    assert made.next_timer_ns() is None
    assert planned(made.on_link(link(3.2), 0)).because == "start"
    assert made.on_timer(PERIOD_NS - 1) is None
    plan = planned(made.on_timer(PERIOD_NS))
    assert (plan.number, plan.because, plan.made_ns) == (2, "period", PERIOD_NS)
    assert made.next_timer_ns() == 2 * PERIOD_NS


def test_a_step_of_the_link_is_planned_for_at_once() -> None:
    made = allocator()
    made.on_link(link(3.2), 0)
    assert made.on_link(link(2.8), 10 * MS) is None
    assert planned(made.on_link(link(2.5), 20 * MS)).because == "step of the rate"
    assert made.on_link(link(2.2), 30 * MS) is None
    assert made.on_link(link(2.2, rtt_ms=55.0), 40 * MS) is None
    assert planned(made.on_link(link(2.2, rtt_ms=70.0), 50 * MS)).because == "step of the round trip"


def test_an_outage_is_planned_for_at_once_and_so_is_its_end() -> None:
    made = allocator()
    made.on_link(link(6.2), 0)
    plan = planned(made.on_link(down(10 * MS), 10 * MS))
    assert options(plan) == [FLOOR, FLOOR]
    assert plan.because == "link gone; outage"
    assert {grant.why for grant in plan.grants} == {"outage"}
    assert made.on_link(down(20 * MS), 20 * MS) is None
    plan = planned(made.on_link(link(6.2), 30 * MS))
    assert plan.because == "link back"
    assert options(plan) == [1, 0]


def test_a_minute_of_outage_has_its_plans_and_floors_only() -> None:
    made = allocator()
    made.on_link(link(6.2), 0)
    now_ns = 0
    for _ in range(240):
        now_ns += PERIOD_NS
        made.on_link(down(now_ns), now_ns)
        made.on_timer(now_ns)
        made.check()
    assert made.books.plans == 241
    assert sum(made.books.lowered.values()) == 2


BAD: list[dict[str, Any]] = [
    {"rates_bps": (math.nan,) * 10},
    {"rates_bps": (math.inf,) * 10},
    {"rates_bps": (-1.0,) + (1e6,) * 9},
    {"rates_bps": tuple(range(10, 0, -1))},
    {"rates_bps": (1e6,) * 9},
    {"rtts_ms": (math.nan,) * 4},
    {"rtts_ms": (50.0,)},
    {"rtt_ms": math.nan},
    {"queue_ms": -1.0},
    {"loss": math.nan},
]


@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_a_state_that_makes_no_sense_leaves_the_floors(wrong: dict[str, Any]) -> None:
    made = allocator()
    made.on_link(link(6.2), 0)
    plan = planned(made.on_link(replace(link(6.2), **wrong), MS))
    assert options(plan) == [FLOOR, FLOOR]
    assert "makes no sense" in plan.because
    assert options(made.on_timer(MS + PERIOD_NS)) == [FLOOR, FLOOR]
    assert options(made.on_link(link(6.2), 400 * MS)) == [1, 0]
    made.check()


def test_before_anything_is_known_the_floors_run() -> None:
    made = allocator()
    plan = planned(made.on_timer(5 * S))
    assert options(plan) == [FLOOR, FLOOR]
    assert plan.because == "period; nothing is known of the link"
    assert planned(made.on_link(link(6.2), 5 * S + MS)).because == "link back"


def test_a_link_of_which_nothing_is_heard_any_more_is_not_planned_with() -> None:
    made = allocator()
    made.on_link(link(6.2), 0)
    assert options(made.on_timer(STALE_NS)) == [1, 0]
    plan = planned(made.on_timer(STALE_NS + PERIOD_NS))
    assert options(plan) == [FLOOR, FLOOR]
    assert "nothing is heard" in plan.because
    assert options(made.on_link(link(6.2), STALE_NS + PERIOD_NS + MS)) == [1, 0]


def test_plans_go_on_after_a_jump_of_the_clock_forward() -> None:
    made = allocator()
    made.on_link(link(6.2), S)
    assert options(made.on_timer(61 * S)) == [FLOOR, FLOOR]
    assert options(made.on_link(link(6.2), 61 * S + MS)) == [1, 0]
    made.check()


def test_plans_go_on_after_a_jump_of_the_clock_backward() -> None:
    made = allocator(hold_ms=1_000)
    made.on_link(link(6.2), 3_598 * S)
    made.on_link(link(6.2), 3_600 * S)
    made.on_timer(3_600 * S)
    made.on_link(link(1.2), 3_600 * S + MS)  # lowered: held for a second
    assert made.on_timer(S) is None
    due_ns = made.next_timer_ns()
    assert due_ns is not None
    assert due_ns <= S + PERIOD_NS
    assert options(made.on_link(link(6.2), S + 2 * MS)) == [0, FLOOR]
    assert options(made.on_timer(2 * S + MS)) == [1, 0]
    made.check()


# Flapping


def settled(made: Allocator, mbps: float) -> Allocator:
    """At S, after the hold of the start."""
    made.on_link(link(mbps), -S)
    made.on_link(link(mbps), S - 10 * MS)
    made.on_timer(S)
    return made


def test_down_at_once_up_after_a_while() -> None:
    made = settled(allocator(hold_ms=1_000), 6.2)
    assert options(made.on_link(link(1.2), S + MS)) == [0, FLOOR]
    assert options(made.on_link(link(6.2), S + 2 * MS)) == [0, FLOOR]
    assert options(made.on_timer(S + 900 * MS)) == [0, FLOOR]
    assert options(made.on_timer(S + 1_200 * MS)) == [1, 0]
    made.check()


def test_a_link_that_has_just_come_is_only_probed_at_first() -> None:
    made = allocator(CAMERA, hold_ms=1_000)
    plan = made.on_link(link(6.2), 0)
    assert (options(plan), probes(plan)) == ([FLOOR], [1])
    assert options(made.on_timer(900 * MS)) == [FLOOR]
    assert options(made.on_timer(1_200 * MS)) == [1]
    made.on_link(down(1_300 * MS), 1_300 * MS)
    plan = made.on_link(link(6.2), 2_200 * MS)
    assert planned(plan).because == "link back"
    assert (options(plan), probes(plan)) == ([FLOOR], [1])
    assert options(made.on_timer(3_100 * MS)) == [FLOOR]
    assert options(made.on_timer(3_400 * MS)) == [1]


def test_what_runs_is_kept_at_a_greater_risk_than_it_was_begun_at() -> None:
    careful = [0.5, 0.5, 0.5, 4.5, 5, 6, 7, 8, 9, 10]  # slower than 4 Mbit/s with a chance of 10 %
    assert options(allocator(CAMERA, risk=0.05).on_link(link(careful), 0)) == [FLOOR]
    for keep_risk, wanted in ((0.2, 1), (0.05, FLOOR)):
        made = allocator(CAMERA, risk=0.05, keep_risk=keep_risk)
        assert options(made.on_link(link(6.0), 0)) == [1]
        assert options(made.on_link(link(careful), MS)) == [wanted]


def test_what_was_not_lowered_is_raised_at_once() -> None:
    made = settled(allocator(hold_ms=1_000), 1.2)
    assert options(made.on_link(link(6.2), S + MS)) == [1, 0]


def test_a_gain_smaller_than_the_cost_of_the_change_is_left() -> None:
    near = service("near", option("a", 0.500, 1.0), option("b", 0.505, 2.0))
    made = allocator(near, switch_cost=0.01)
    assert options(made.on_link(link(1.5), 0)) == [0]
    assert options(made.on_link(link(3.0), MS)) == [0]
    assert options(allocator(near, switch_cost=0.001).on_link(link(3.0), 0)) == [1]


def test_a_change_that_costs_something_is_made_where_the_old_choice_no_longer_fits() -> None:
    near = service("near", option("a", 0.42, 2.0))
    made = allocator(near, switch_cost=0.01)
    assert options(made.on_link(link(2.5), 0)) == [0]
    assert options(made.on_link(link(1.5), MS)) == [FLOOR]


def test_right_after_a_change_another_must_gain_more() -> None:
    made = allocator(CAMERA, switch_cost=0.2, settle_ms=1_000)
    assert options(made.on_link(link(1.2), 0)) == [0]  # from the start there was no change
    assert options(made.on_link(link(5.0), 500 * MS)) == [0]  # 0.1 more than now is less than 0.2 halved by the half
    assert options(made.on_timer(1_200 * MS)) == [1]


def test_what_an_outage_forced_is_no_change_that_another_must_wait_for() -> None:
    made = allocator(CAMERA, switch_cost=0.2, settle_ms=1_000)
    assert options(made.on_link(link(1.2), 0)) == [0]
    made.on_link(down(100 * MS), 100 * MS)
    assert options(made.on_link(link(5.0), 200 * MS)) == [1]


def test_changes_and_flaps_are_counted() -> None:
    made = allocator(CAMERA, hold_ms=0)
    for step, mbps in enumerate((4.5, 1.5, 4.5, 1.5)):
        made.on_link(link(mbps), step * S)
    made.on_link(link(4.5), 3 * S + FLAP_NS + 1)
    assert (made.books.raised["camera"], made.books.lowered["camera"]) == (3, 2)
    assert made.books.flaps["camera"] == 2  # the first change came from the floor, the last was long after
    made.check()


# Scenes


SCENES = {"intersection": {"map": 10.0}, "reverse": {"camera": 0.0}}


def with_scenes(*by_speed: Scene, hold_ms: int = 0) -> Allocator:
    plain, config = table(CAMERA, MAP, scenes=SCENES), AllocatorConfig(hold_ms=hold_ms, settle_ms=1)
    return Allocator(Table("test", "", plain.services, plain.scenes + by_speed), config)


def test_a_scene_changes_what_is_worth_most_at_once() -> None:
    made = with_scenes()
    assert options(made.on_link(link(2.2), 0)) == [0, FLOOR]
    plan = planned(made.on_scene("intersection", 10.0, MS))
    assert options(plan) == [FLOOR, 0]
    assert plan.because == "scene"
    assert made.on_scene("intersection", 11.0, 2 * MS) is None
    assert options(made.on_scene("", 11.0, 3 * MS)) == [0, FLOOR]


def test_a_scene_lifts_what_is_held() -> None:
    made = settled(with_scenes(hold_ms=1_000), 6.2)
    assert options(made.on_link(link(2.2), S + 100 * MS)) == [0, FLOOR]
    assert options(made.on_scene("intersection", 10.0, S + 200 * MS)) == [FLOOR, 0]


def test_an_unknown_scene_is_ignored_and_said() -> None:
    made = with_scenes()
    made.on_link(link(2.2), 0)
    assert made.on_scene("volcano", 10.0, MS) is None
    plan = planned(made.on_timer(PERIOD_NS))
    assert options(plan) == [0, FLOOR]
    assert plan.because == "period; scene 'volcano' is not in the table, ignored"


def test_speed_tells_the_scene_where_none_is_told() -> None:
    made = with_scenes(Scene("parked", None, 0.1, {"map": 10.0, "camera": 0.1}), Scene("fast", 20.0, None, {}))
    made.on_link(link(2.2), 0)
    assert options(made.on_scene("", 0.0, MS)) == [FLOOR, 0]
    assert made.on_scene("", math.nan, 2 * MS) is not None  # no speed, no scene by speed
    assert options(made.on_scene("", 0.0, 3 * MS)) == [FLOOR, 0]
    assert options(made.on_scene("reverse", 0.0, 4 * MS)) == [FLOOR, 0]  # told: alone
    assert options(made.on_scene("", 25.0, 5 * MS)) == [0, FLOOR]


# Probes


def probes(plan: Plan | None) -> list[int]:
    return [grant.probe for grant in planned(plan).grants]


def test_what_is_left_over_probes_the_option_wanted_next() -> None:
    made = allocator(CAMERA, probe_share=1.0, risk=0.01)
    plan = made.on_link(link([1.5] + [6.0] * 9), 0)
    assert options(plan) == [0]
    assert probes(plan) == [1]
    assert planned(plan).grants[0].probe_bps == pytest.approx(4e6, rel=1e-3)


def test_nothing_is_probed_where_it_is_not_allowed_or_wanted() -> None:
    assert probes(allocator(CAMERA, probe_share=0.0, risk=0.01).on_link(link([1.5] + [9.0] * 9), 0)) == [FLOOR]
    assert probes(allocator(CAMERA, probe_share=1.0).on_link(link(100.0), 0)) == [FLOOR]


def test_where_nothing_better_fits_what_is_known_the_most_useful_is_tried() -> None:
    """Or a link that was thought slow with nothing sent would be thought slow for ever."""
    poor = service("poor", option("o", 0.41, 4.0))
    assert probes(allocator(CAMERA, poor).on_link(link(0.1), 0)) == [0, FLOOR]
    assert probes(allocator(CAMERA, poor).on_link(link(1.5), 0)) == [1, FLOOR]


def test_probes_are_the_most_useful_set_that_fits() -> None:
    services = (CAMERA, replace(MAP, weight=5.0))
    made = allocator(*services, probe_share=1.0, risk=0.01)
    assert probes(made.on_link(link(spread(2.3, 0.1, 3.0)), 0)) == [FLOOR, 0]
    assert probes(allocator(*services, probe_share=1.0, risk=0.01).on_link(link(spread(3.3, 0.1, 4.0)), 0)) == [0, 0]


# Why


def test_each_grant_says_what_a_better_option_would_need() -> None:
    slow = service("slow", option("never", 0.9, 1.0, exec_ms=200.0))
    plan = planned(allocator(CAMERA, MAP, slow).on_link(link(3.2), 0))
    whys = [grant.why for grant in plan.grants]
    assert whys == [
        "a better one needs 4.00 Mbit/s",
        "no option is better",
        "no better option meets 150 ms, however fast the link",
    ]


def test_the_link_state_is_a_value_that_is_not_kept_open() -> None:
    """A plan depends on what was told, not on who told it."""
    states: list[LinkState] = [link(1.2), link(3.2), link(6.2)]
    first = [options(allocator().on_link(state, 0)) for state in states]
    assert first == [options(allocator().on_link(state, 7 * S)) for state in states]
