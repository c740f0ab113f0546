"""Where the car's answer and the cloud's meet."""

from __future__ import annotations

import pytest

from skyfog_core.units import MS, S
from skyfog_uplink.policy.merge import LATE_NS, MAX_OPEN, MergeAction, Merger, Missed, Publish

DEADLINE = 150 * MS


def each(offloads: int = 1) -> Merger:
    made = Merger("each", 0.3)
    assert made.on_capture(1, DEADLINE, offloads, 0) == []
    return made


def best(offloads: int = 1) -> Merger:
    made = Merger("best", 0.3)
    assert made.on_capture(1, DEADLINE, offloads, 0) == []
    return made


def told(actions: list[MergeAction]) -> list[tuple[str, bool, bool]]:
    """Source, final, replaces."""
    return [(action.source, action.final, action.replaces) for action in actions if isinstance(action, Publish)]


def test_the_cars_answer_goes_out_and_the_clouds_replaces_it() -> None:
    it = each()
    assert told(it.on_car(1, "c", 30 * MS)) == [("car", False, False)]
    (out,) = it.on_cloud(1, "k", 0.6, 100 * MS)
    assert out == Publish(1, "cloud", "k", final=True, replaces=True)
    assert it.next_timer_ns() is None
    it.check()


def test_without_an_offload_the_cars_answer_is_final() -> None:
    it = each(0)
    assert told(it.on_car(1, "c", 30 * MS)) == [("car", True, False)]
    assert it.counts["over_car"] == 1


def test_the_clouds_answer_may_come_first_and_the_cars_is_then_nothing_new() -> None:
    it = each()
    assert told(it.on_cloud(1, "k", 0.6, 20 * MS)) == [("cloud", True, False)]
    assert it.on_car(1, "c", 30 * MS) == []
    assert it.counts["outdone_car"] == 1
    it.check()


def test_a_probe_that_is_worth_more_replaces_the_planned_answer_and_not_the_other_way_round() -> None:
    it = each(2)
    it.on_car(1, "c", 30 * MS)
    assert told(it.on_cloud(1, "k", 0.6, 80 * MS)) == [("cloud", False, True)]
    assert told(it.on_cloud(1, "p", 0.7, 90 * MS)) == [("cloud", True, True)]
    it = each(2)
    it.on_car(1, "c", 30 * MS)
    assert told(it.on_cloud(1, "p", 0.7, 80 * MS)) == [("cloud", False, True)]
    assert told(it.on_cloud(1, "k", 0.6, 90 * MS)) == []
    assert it.counts["outdone_cloud"] == 1


def test_a_cloud_worth_less_than_the_car_is_replaced_by_it() -> None:
    it = each()
    assert told(it.on_cloud(1, "k", 0.2, 20 * MS)) == [("cloud", False, False)]
    assert told(it.on_car(1, "c", 30 * MS)) == [("car", True, True)]


def test_a_late_answer_of_the_cloud_is_discarded_and_counted() -> None:
    it = each()
    it.on_car(1, "c", 30 * MS)
    assert it.on_cloud(1, "k", 0.6, DEADLINE + 1) == []
    assert it.counts["late_cloud"] == 1
    it.check()


def test_an_answer_on_the_deadline_is_in_time_though_the_timer_was_first() -> None:
    it = each()
    assert it.on_timer(DEADLINE) == []
    assert it.next_timer_ns() == DEADLINE + 1
    assert told(it.on_cloud(1, "k", 0.6, DEADLINE)) == [("cloud", True, False)]


def test_when_the_cars_model_has_crashed_the_clouds_answer_is_still_published() -> None:
    it = each()
    assert told(it.on_cloud(1, "k", 0.6, 100 * MS)) == [("cloud", True, False)]
    assert it.on_timer(DEADLINE + LATE_NS + 1) == []
    assert it.counts["missed"] == 0
    assert it.counts["over_cloud"] == 1
    assert it.next_timer_ns() is None
    it.check()


@pytest.mark.parametrize("make", [each, best])
def test_no_answer_by_the_deadline_is_said_once(make: type) -> None:
    it = make()
    (missed,) = it.on_timer(DEADLINE + 1)
    assert isinstance(missed, Missed)
    assert missed.capture == 1
    assert it.next_timer_ns() == DEADLINE + LATE_NS + 1
    assert it.on_timer(DEADLINE + LATE_NS + 1) == []
    assert (it.counts["missed"], it.counts["over_nothing"]) == (1, 1)
    it.check()


@pytest.mark.parametrize("make", [each, best])
def test_the_cars_answer_still_goes_out_when_it_is_late(make: type) -> None:
    it = make()
    it.on_timer(DEADLINE + 1)
    (out,) = it.on_car(1, "c", DEADLINE + 100 * MS)
    assert out == Publish(1, "car", "c", final=True, replaces=False, late=True)


def test_but_not_after_something_newer() -> None:
    it = each(0)
    it.on_capture(2, DEADLINE + 100 * MS, 0, 100 * MS)
    it.on_car(2, "c2", DEADLINE + 50 * MS)
    assert it.on_car(1, "c1", DEADLINE + 60 * MS) == []
    assert it.counts["stale_car"] == 1
    it.check()


def test_best_waits_for_the_cloud_until_the_deadline() -> None:
    it = best()
    assert it.on_car(1, "c", 30 * MS) == []
    assert it.next_timer_ns() == DEADLINE + 1
    assert told(it.on_timer(DEADLINE + 1)) == [("car", True, False)]
    assert it.on_cloud(1, "k", 0.6, DEADLINE + 2) == []
    it.check()


def test_best_goes_out_as_soon_as_nothing_better_can_come() -> None:
    it = best()
    assert told(it.on_cloud(1, "k", 0.6, 30 * MS)) == [("cloud", True, False)]
    it = best()
    it.on_car(1, "c", 30 * MS)
    assert told(it.on_cloud_gone(1, 40 * MS)) == [("car", True, False)]
    assert it.next_timer_ns() is None
    it = best(2)
    it.on_car(1, "c", 30 * MS)
    assert it.on_cloud(1, "k", 0.6, 50 * MS) == []
    assert told(it.on_cloud(1, "p", 0.7, 60 * MS)) == [("cloud", True, False)]


def test_what_nobody_waits_for_is_counted() -> None:
    it = each()
    it.on_car(9, "x", 0)
    it.on_cloud(9, "x", 0.5, 0)
    it.on_cloud_gone(9, 0)
    it.on_car(1, "c", 0)
    it.on_car(1, "c", 0)
    it.on_cloud_gone(1, 0)
    it.on_cloud(1, "k", 0.5, 0)
    assert it.counts["unclaimed"] == 5
    it.check()


def test_a_capture_that_is_open_may_not_come_again() -> None:
    with pytest.raises(ValueError, match="capture 1"):
        each().on_capture(1, DEADLINE, 0, 0)


def test_memory_is_bounded_whatever_stays_out() -> None:
    it = Merger("each", 0.3)
    said = 0
    for capture in range(MAX_OPEN + 50):
        said += len(it.on_capture(capture, 3_600 * S, 1, 0))
    assert said == 50
    it.check()


def test_a_clock_that_jumps_back_holds_nothing_up() -> None:
    it = Merger("best", 0.3)
    it.on_capture(1, 100 * S + DEADLINE, 1, 100 * S)
    it.on_car(1, "c", 100 * S)
    assert told(it.on_timer(40 * S)) == [("car", True, False)]
    it.on_capture(2, 40 * S + DEADLINE, 0, 40 * S)
    assert told(it.on_car(2, "c", 40 * S)) == [("car", True, False)]
    it.on_capture(3, 40 * S + DEADLINE, 1, 40 * S)
    assert [type(action) for action in it.on_timer(100 * S)] == [Missed]
    it.check()
