"""Which of several answers is delivered."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from unit.skyfog_router.policies import Talk, key, kinds, sends

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import ConfigError, NoQuorum, ServiceFailed
from skyfog_core.units import MS
from skyfog_router.policy.actions import Cancel, Deliver, Fail
from skyfog_router.policy.gather import BestByDeadline, Gather, Given, Quorum, agree, field_of, gather_of


@dataclass
class Plan:
    """Like a ROS message."""

    _fields: ClassVar[dict[str, str]] = {"cost": "double", "points": "double[]", "name": "string"}
    cost: float = 0.0
    points: Any = field(default_factory=list)
    name: str = ""

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        return cls._fields


@dataclass
class Nested:
    plan: Plan


def give(gather: Gather, *costs: float) -> list[str | None]:
    """Who is delivered after each answer; the first is by a/0, the next by a/1 …"""
    taken = [gather.take(Given(key(f"a/{i}"), Plan(cost))) for i, cost in enumerate(costs)]
    return [str(given.replica) if given else None for given in taken]


def best(quality: str = "min") -> BestByDeadline:
    return BestByDeadline(RoutingConfig(answer="best_by_deadline", quality_field="cost", quality=quality))


def at_slo(gather: Gather) -> str:
    given = gather.at_slo()
    return str(given.replica) if given else ""


def test_the_first_one_is_taken_at_once() -> None:
    assert give(gather_of(RoutingConfig()), 3.0) == ["a/0"]


@pytest.mark.parametrize(("quality", "winner"), [("min", "a/1"), ("max", "a/2")])
def test_the_best_by_the_slo_is_taken_then(quality: str, winner: str) -> None:
    gather = best(quality)
    assert give(gather, 3.0, 1.0, 5.0) == [None] * 3
    assert at_slo(gather) == winner


def test_of_equals_the_first_one_is_taken() -> None:
    gather = best()
    give(gather, 2.0, 2.0)
    assert at_slo(gather) == "a/0"


@pytest.mark.parametrize("quality", ["min", "max"])
@pytest.mark.parametrize("costs", [(math.nan, 4.0, math.nan), (4.0, math.nan), (math.nan, math.nan, 4.0)])
def test_a_number_is_better_than_none(quality: str, costs: tuple[float, ...]) -> None:
    gather = best(quality)
    give(gather, *costs)
    assert at_slo(gather) == f"a/{costs.index(4.0)}"


def test_without_any_by_the_slo_the_first_thereafter_will_do() -> None:
    gather = best()
    assert gather.at_slo() is None
    assert give(gather, 9.0) == ["a/0"]


def test_a_quorum_is_there_when_enough_agree() -> None:
    gather = Quorum(RoutingConfig(answer="quorum", quorum=3))
    assert give(gather, 1.0, 2.0, 1.0, 1.0 + 1e-9) == [None, None, None, "a/0"]
    assert gather.at_slo() is gather.at_end() is None
    assert gather.disagreement == "3 answers should agree, these came: a/0 = a/2 = a/3; a/1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1.0, 1.0 + 5e-7, True),
        (1.0, 1.0 + 5e-6, False),
        (0.0, 1e-12, True),
        (0.0, 1e-6, False),
        (math.nan, math.nan, True),
        (math.nan, 1.0, False),
        (math.inf, math.inf, True),
        ([1.0, [2.0]], [1.0, [2.0 + 1e-9]], True),
        ([1.0], [1.0, 2.0], False),
        ((1.0, "x"), [1.0, "x"], True),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-9]), True),
        (np.array([1.0, 2.0]), np.array([1.0, 2.1]), False),
        (array("d", [1.0]), array("d", [1.0 + 1e-9]), True),
        (Plan(1.0, [0.5], "x"), Plan(1.0, [0.5], "x"), True),
        (Plan(1.0, [0.5], "x"), Plan(1.0, [0.5], "y"), False),
        (Plan(1.0), Nested(Plan(1.0)), False),
        (b"x", b"x", True),
        (3, 3, True),
        (3, 4, False),
    ],
)
def test_what_agrees(one: Any, other: Any, same: bool) -> None:
    assert agree(one, other, []) is same
    assert agree(other, one, []) is same


def test_only_the_fields_named_are_compared() -> None:
    one, other = Plan(1.0, [1.0], "x"), Plan(1.0, [2.0], "y")
    assert agree(one, other, ["cost"])
    assert not agree(one, other, ["cost", "name"])
    assert agree(Nested(one), Nested(other), ["plan.cost"])


def test_a_field_that_is_not_there_is_named_with_what_is() -> None:
    assert field_of(Nested(Plan(2.5)), "plan.cost") == 2.5
    with pytest.raises(ConfigError, match=r"Plan has no field 'price': 'price' is none of cost, points, name"):
        field_of(Plan(), "price")
    with pytest.raises(ConfigError, match="'cost' is none of"):
        field_of(Nested(Plan()), "cost.plan")


# by the whole request


def talk_best(**config: Any) -> Talk:
    return Talk("a/0", "b/0", "c/0", answer="best_by_deadline", quality_field="cost", slo_ms=100, k=2, **config)


def test_best_by_deadline_asks_k_at_once_and_delivers_the_best_at_the_slo() -> None:
    talk = talk_best(policy="single")
    assert sends(talk.call()) == [("a/0", "first"), ("b/0", "copy")]
    talk.now_ns += 10 * MS
    assert talk.reply("b/0", Plan(3.0)) == []
    deliver, cancel = talk.passes(90)
    assert isinstance(deliver, Deliver)
    assert (deliver.replica, deliver.took_ns, cancel) == (key("b/0"), 100 * MS, Cancel(talk.id, key("a/0")))
    assert talk.router.books.within_slo == 1


def test_best_by_deadline_is_content_with_k() -> None:
    talk = talk_best(policy="single")
    talk.call()
    assert talk.reply("a/0", Plan(3.0)) == []
    (deliver,) = talk.reply("b/0", Plan(5.0))
    assert isinstance(deliver, Deliver)
    assert deliver.response.cost == 3.0


def test_best_by_deadline_asks_another_in_the_place_of_one_that_failed() -> None:
    talk = talk_best(policy="single")
    talk.call()
    talk.reply("a/0", Plan(3.0))
    assert sends(talk.error("b/0", ServiceFailed("no plan"))) == [("c/0", "retry")]


def test_best_by_deadline_by_a_late_timer_is_within_the_slo_all_the_same() -> None:
    talk = talk_best(policy="single")
    talk.call()
    talk.reply("a/0", Plan(5.0))
    talk.now_ns = 100 * MS + 300_000
    assert kinds(talk.router.on_timer(talk.now_ns)) == ["Deliver", "Cancel"]
    assert talk.router.books.within_slo == 1


def test_best_by_deadline_does_not_wait_for_nobody() -> None:
    talk = talk_best(policy="single", max_attempts=2)
    talk.call()
    talk.reply("a/0", Plan(5.0))
    assert kinds(talk.error("b/0", ServiceFailed("no plan"))) == ["Deliver"]


def test_best_by_deadline_after_the_slo_takes_the_first() -> None:
    talk = talk_best(policy="single")
    talk.call()
    assert talk.passes(150) == []
    assert kinds(talk.reply("b/0", Plan(9.0))) == ["Deliver", "Cancel"]
    assert talk.router.books.within_slo == 0


def test_a_quorum_that_disagrees_asks_one_more_and_then_says_so() -> None:
    talk = Talk("a/0", "b/0", "c/0", policy="single", answer="quorum", quorum=2)
    assert sends(talk.call()) == [("a/0", "first"), ("b/0", "copy")]
    assert talk.reply("a/0", Plan(1.0)) == []
    assert sends(talk.reply("b/0", Plan(2.0))) == [("c/0", "retry")]
    (fail,) = talk.reply("c/0", Plan(3.0))
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, NoQuorum)
    assert str(fail.error) == "2 answers should agree, these came: a/0; b/0; c/0"


def test_a_quorum_that_is_reached_by_the_third_is_delivered() -> None:
    talk = Talk("a/0", "b/0", "c/0", policy="single", answer="quorum", quorum=2)
    talk.call()
    talk.reply("a/0", Plan(1.0))
    talk.reply("b/0", Plan(2.0))
    (deliver,) = talk.reply("c/0", Plan(2.0))
    assert isinstance(deliver, Deliver)
    assert deliver.response.cost == 2.0


def test_no_quorum_by_the_deadline_says_who_fell_apart() -> None:
    talk = Talk("a/0", "b/0", policy="single", answer="quorum", quorum=2)
    talk.call()
    talk.reply("a/0", Plan(1.0))
    fail = talk.passes(1_000)[0]
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, NoQuorum)
    assert "a/0, after 1000 ms" in str(fail.error)
