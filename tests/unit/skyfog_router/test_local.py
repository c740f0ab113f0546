"""The fallback on the robot itself: asked last."""

from __future__ import annotations

from typing import Any

import pytest
from unit.skyfog_router.policies import FULL, LOST, Talk, key, kinds, sends

from skyfog_core.errors import ServiceFailed
from skyfog_router.policy.actions import Deliver


def talk(*names: str, local_ms: float = 0.0, **config: Any) -> Talk:
    made = Talk(*names, **{"policy": "single", **config})
    made.join("me/0", local=True)
    if local_ms:
        made.teach({"me/0": [local_ms] * 20})
    return made


def test_it_is_asked_at_once_where_nobody_else_is() -> None:
    made = talk()
    assert sends(made.call()) == [("me/0", "local")]
    (deliver,) = made.reply("me/0")
    assert isinstance(deliver, Deliver)
    assert deliver.local
    assert made.router.books.local == 1


def test_it_is_asked_when_the_last_other_has_left() -> None:
    made = talk("a/0")
    made.leave("a/0")
    assert sends(made.call()) == [("me/0", "local")]


def test_it_is_asked_at_half_the_deadline_while_nothing_is_known_of_it() -> None:
    made = talk("a/0")
    assert sends(made.call()) == [("a/0", "first")]
    assert made.passes(499.9) == []
    assert sends(made.passes(0.1)) == [("me/0", "local")]


def test_it_is_not_asked_at_once_because_the_slo_is_short_and_nothing_known_of_it() -> None:
    made = talk("a/0", slo_ms=50)
    assert sends(made.call()) == [("a/0", "first")]
    assert sends(made.passes(24.9)) == []
    assert sends(made.passes(0.2)) == [("me/0", "local")]


@pytest.mark.parametrize(("slo_ms", "end_ms"), [(0, 1_000), (300, 300)])
def test_it_is_asked_when_the_time_left_is_what_it_needs(slo_ms: int, end_ms: int) -> None:
    made = talk("a/0", local_ms=100, slo_ms=slo_ms)
    made.call()
    due_ms = end_ms - 130
    assert sends(made.passes(due_ms - 6)) == []
    assert sends(made.passes(12)) == [("me/0", "local")]


def test_it_is_asked_at_once_in_panic() -> None:
    made = talk("a/0", "b/0", local_ms=10, health={"max_ejected": 1.0, "consecutive_failures": 1, "panic_below": 0.6})
    made.call()
    made.error("a/0", ServiceFailed("x"))
    assert made.router.snapshot(made.now_ns).panic
    assert ("me/0", "local") in sends(made.call())


@pytest.mark.parametrize("error", [FULL, LOST, ServiceFailed("x")], ids=repr)
def test_it_is_asked_at_once_when_all_others_have_failed_this_request(error: Any) -> None:
    made = talk("a/0", "b/0", local_ms=10)
    made.call()
    assert sends(made.error("a/0", error)) == [("b/0", "retry")]
    assert sends(made.error("b/0", error)) == [("me/0", "local")]


def test_who_answers_from_elsewhere_is_not_local_and_the_fallback_is_cancelled() -> None:
    made = talk("a/0")
    made.call()
    made.passes(500)
    actions = made.reply("a/0")
    assert kinds(actions) == ["Deliver", "Cancel"]
    assert isinstance(actions[0], Deliver)
    assert (actions[0].local, actions[0].asked) == (False, 2)


def test_it_takes_no_place_of_the_fan_out() -> None:
    made = talk(fan_out=1)
    assert sends(made.call()) == [("me/0", "local")]
    assert sends(made.join("a/0")) == [("a/0", "retry")]


def test_at_most_once_is_not_sent_to_it_after_another() -> None:
    made = talk("a/0", repeat="at_most_once")
    assert sends(made.call()) == [("a/0", "first")]
    assert sends(made.passes(999)) == []
    alone = talk(repeat="at_most_once")
    assert sends(alone.call()) == [("me/0", "local")]
    assert sends(alone.join("a/0")) == []


def test_if_not_executed_goes_to_it_after_a_refusal_only() -> None:
    made = talk("a/0", repeat="if_not_executed")
    made.call()
    assert sends(made.error("a/0", FULL)) == [("me/0", "local")]
    made = talk("a/0", repeat="if_not_executed")
    made.call()
    made.error("a/0", LOST)
    assert sends(made.passes(999)) == []


def test_it_is_the_robots_last_word() -> None:
    made = talk("a/0", local_ms=10)
    made.call()
    made.error("a/0", FULL)
    assert kinds(made.error("me/0", FULL)) == ["Fail"]
    assert made.router.snapshot(made.now_ns).replicas[1].replica == key("me/0").replica
