"""broadcast, single, k of n and hedged: whom they ask, and when."""

from __future__ import annotations

import pytest
from unit.skyfog_router.policies import Talk, kinds, sends

from skyfog_core.errors import ServiceFailed
from skyfog_core.units import MS


def hedged(*names: str, extra_load: float = 0.4, **config: float) -> Talk:
    """Answers come in 10 ms, one in twenty in 50."""
    talk = Talk(*names, policy="hedged", extra_load=extra_load, hedge_quantile=0.9, **config)
    talk.teach({name: ([10.0] * 19 + [50.0]) * 4 for name in names})
    return talk


def delay_ms(talk: Talk) -> float:
    found = talk.router._fleet.pool.quantile(talk.router._config.hedge_quantile)
    assert found is not None
    return found / MS


def test_single_asks_the_best_and_waits() -> None:
    talk = Talk("a/0", "b/0", policy="single")
    talk.teach({"a/0": [20.0], "b/0": [10.0]})
    assert sends(talk.call()) == [("b/0", "first")]
    assert sends(talk.passes(999)) == []


def test_k_of_n_takes_different_zones_first() -> None:
    talk = Talk("a/0", "a/1", "b/0", "c/0", policy="k_of_n", k=3)
    talk.teach({"a/0": [10.0], "a/1": [11.0], "b/0": [12.0], "c/0": [30.0]})
    assert sends(talk.call()) == [("a/0", "first"), ("b/0", "copy"), ("c/0", "copy")]


def test_k_of_n_goes_on_within_a_zone_where_there_are_no_more() -> None:
    talk = Talk("a/0", "a/1", "b/0", policy="k_of_n", k=3)
    assert [name for name, _ in sends(talk.call())] == ["a/0", "b/0", "a/1"]


def test_k_of_n_replaces_a_copy_that_failed_by_one_in_a_zone_without() -> None:
    talk = Talk("a/0", "b/0", "b/1", "c/0", policy="k_of_n", k=2)
    talk.teach({"a/0": [10.0], "b/0": [11.0], "b/1": [12.0], "c/0": [30.0]})
    talk.call()
    assert sends(talk.error("a/0", ServiceFailed("x"))) == [("c/0", "copy")]


def test_hedged_asks_one_more_once_the_quantile_has_passed() -> None:
    talk = hedged("a/0", "b/0")
    assert sends(talk.call()) == [("a/0", "first")]
    assert delay_ms(talk) == pytest.approx(10, rel=0.05)
    assert sends(talk.passes(delay_ms(talk) - 0.1)) == []
    assert sends(talk.passes(0.2)) == [("b/0", "hedge")]


def test_hedged_asks_one_more_each_time() -> None:
    talk = hedged("a/0", "b/0", "c/0")
    talk.call()
    assert sends(talk.passes(1.05 * delay_ms(talk))) == [("b/0", "hedge")]
    assert sends(talk.passes(1.05 * delay_ms(talk))) == [("c/0", "hedge")]
    assert sends(talk.passes(500)) == []


def test_an_answer_before_ends_it() -> None:
    talk = hedged("a/0", "b/0")
    talk.call()
    talk.passes(5)
    assert kinds(talk.reply("a/0")) == ["Deliver"]
    assert talk.passes(500) == []


def test_hedged_waits_for_a_tenth_of_the_deadline_while_nothing_is_known() -> None:
    talk = Talk("a/0", "b/0", policy="hedged", extra_load=0.4)
    sent = sends(talk.call())
    assert sent[0] == ("a/0", "first")
    talk = Talk("a/0", "b/0", policy="hedged")
    talk.call()
    assert sends(talk.passes(99.9)) == []
    assert sends(talk.passes(400)) == [], "no token, and not known to miss"
    assert sends(talk.passes(100)) == [("b/0", "rescue")], "half of the deadline is over"


def test_hedges_keep_the_budget_and_rescues_are_beside_it() -> None:
    talk = hedged("a/0", "b/0", extra_load=0.1)
    budget = talk.router.budget
    for _ in range(200):
        talk.call()
        talk.passes(30)  # a/0 and b/0 answer late, always
        talk.reply("a/0")
        talk.passes(100)
    books = talk.router.books
    assert books.sends["hedge"] + books.sends["probe"] == budget.granted <= 0.1 * 200 + budget.burst
    assert books.sends["first"] == 200


def test_without_a_token_a_copy_is_sent_where_the_request_would_otherwise_miss() -> None:
    talk = hedged("a/0", "b/0", extra_load=0.0, deadline_ms=100)
    talk.call()
    assert sends(talk.passes(40)) == [], "it may still answer"
    sent = sends(talk.passes(59))
    assert sent == [("b/0", "rescue")], "hardly any answer comes after more than 50 ms"
    assert talk.router.snapshot(talk.now_ns).rescues == 1


def test_broadcast_asks_all_but_no_more_than_fan_out_however_they_did() -> None:
    talk = Talk("a/0", "b/0", "c/0", policy="broadcast", fan_out=2)
    assert len(sends(talk.call())) == 2
    everybody = Talk("a/0", "b/0", "c/0", policy="broadcast")
    for _ in range(4):
        everybody.call()
        everybody.error("a/0", ServiceFailed("x"))
        everybody.reply("b/0")
    assert everybody.router.snapshot(0).replicas[0].ejections == 1
    assert len(sends(everybody.call())) == 3
