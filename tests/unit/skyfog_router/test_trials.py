"""Copies on trial: real requests beside the way they would go anyway, heard to the end."""

from __future__ import annotations

from unit.skyfog_router.policies import Talk, key, kinds, sends

from skyfog_core.errors import ServiceFailed
from skyfog_router.policy.actions import Cancel, Eject, Fail, Load, Readmit


def talk(**config: object) -> Talk:
    """a/0 and b/0 are known, a/0 is the faster."""
    made = Talk("a/0", "b/0", **{"policy": "single", "extra_load": 0.5, **config})
    made.teach({"a/0": [10.0] * 20, "b/0": [20.0] * 20})
    return made


def ejected() -> Talk:
    """b/0 has failed three times, and its ejection is over."""
    made = talk()
    fleet = made.router._fleet
    for number in range(3):
        fleet.on_sent(key("b/0"), bytes([number]), made.now_ns)
        fleet.on_failed(key("b/0"), bytes([number]), "broken", Load(), made.now_ns)
    made.passes(1_000)
    return made


def state(made: Talk, name: str) -> str:
    return next(r.state for r in made.router.snapshot(made.now_ns).replicas if f"{r.zone}/{r.replica}" == name)


def test_the_unknown_are_tried_beside_the_first() -> None:
    made = talk(policy="hedged")
    made.join("c/0")
    assert sends(made.call()) == [("a/0", "first"), ("c/0", "probe")]
    assert sends(made.call()) == [("a/0", "first")], "one at a time"


def test_a_probe_is_not_cancelled_when_another_wins_and_its_answer_readmits() -> None:
    made = ejected()
    assert state(made, "b/0") == "ejected"
    assert sends(made.call()) == [("a/0", "first"), ("b/0", "probe")]
    assert state(made, "b/0") == "probing"
    made.passes(5)
    assert kinds(made.reply("a/0")) == ["Deliver"]
    assert made.router.is_open(made.id)
    made.router.check()
    made.passes(15)
    assert made.reply("b/0") == [Readmit(key("b/0"))]
    assert not made.router.is_open(made.id)
    assert made.router.next_timer_ns() is None
    books = made.router.books
    assert (books.called, books.delivered, books.late) == (1, 1, 0)


def test_a_probe_that_is_first_is_the_answer() -> None:
    made = ejected()
    made.call()
    made.passes(15)
    assert kinds(made.reply("b/0")) == ["Deliver", "Readmit"], "a/0 takes unusually long, and is heard"


def test_a_silent_probe_is_cancelled_at_the_deadline_and_ejects_again() -> None:
    made = ejected()
    made.call()
    made.reply("a/0")
    cancel, again = made.passes(1_000)
    assert cancel == Cancel(made.id, key("b/0"))
    assert isinstance(again, Eject)
    assert again.for_ns == 2_000_000_000
    assert not made.router.is_open(made.id)


def test_a_probe_that_fails_ejects_again_and_the_request_does_not_suffer() -> None:
    made = ejected()
    made.call()
    assert kinds(made.error("b/0", ServiceFailed("still"))) == ["Eject"]
    assert kinds(made.reply("a/0")) == ["Deliver"]


def test_policies_that_do_not_plan_by_latencies_try_only_who_was_ejected_and_hope_of_the_unknown() -> None:
    made = talk(policy="single")
    made.join("c/0")
    assert sends(made.call()) == [("c/0", "first")]
    assert sends(ejected().call()) == [("a/0", "first"), ("b/0", "probe")]


def test_probes_are_paid_from_the_budget() -> None:
    made = talk(policy="hedged")
    made.join("c/0")
    before = made.router.budget.granted
    made.call()
    assert made.router.budget.granted == before + 1
    snapshot = made.router.snapshot(made.now_ns)
    assert (snapshot.sends, snapshot.extra) == (2, 1)


def test_without_a_token_nobody_is_tried() -> None:
    made = talk(policy="hedged", extra_load=0.01)
    while made.router.budget.take():
        pass
    made.join("c/0")
    assert sends(made.call()) == [("a/0", "first")]


def test_a_probe_takes_neither_a_place_of_the_fan_out_nor_the_last_attempt() -> None:
    made = talk(policy="hedged", fan_out=1)
    made.join("c/0")
    assert sends(made.call()) == [("a/0", "first"), ("c/0", "probe")]
    assert sends(made.error("a/0", ServiceFailed("x"))) == [("b/0", "retry")]
    frugal = talk(policy="hedged", max_attempts=2)
    frugal.join("c/0")
    assert sends(frugal.call()) == [("a/0", "first")]


def test_where_repeats_are_forbidden_nobody_is_tried() -> None:
    made = talk(repeat="if_not_executed")
    made.join("c/0")
    assert sends(made.call()) == [("c/0", "first")]


def test_at_the_end_probes_are_withdrawn_too() -> None:
    made = ejected()
    made.call()
    made.reply("a/0")
    assert made.router.close(ServiceFailed("bye"), made.now_ns) == [Cancel(made.id, key("b/0"))]
    assert not made.router.is_open(made.id)
    made.router.check()


def test_a_request_that_fails_at_its_deadline_fails_once_with_a_probe_out() -> None:
    made = ejected()
    made.call()
    fail, *cancels, ejected_again = made.passes(1_000)
    assert isinstance(fail, Fail)
    assert cancels == [Cancel(made.id, key("a/0")), Cancel(made.id, key("b/0"))]
    assert isinstance(ejected_again, Eject)
    made.router.check()


def test_a_loser_that_takes_unusually_long_is_heard_for_a_while_and_one_at_a_time() -> None:
    made = talk(policy="k_of_n")
    assert sends(made.call()) == [("a/0", "first"), ("b/0", "copy")]
    first = made.id
    made.passes(60)
    assert kinds(made.reply("b/0")) == ["Deliver"], "a/0 usually takes 10 ms"
    assert made.router.is_open(first)
    made.call()
    made.passes(60)
    assert "Cancel" in kinds(made.reply("b/0")), "the second of a/0 is withdrawn"
    cancel, *_ = made.passes(60)
    assert cancel == Cancel(first, key("a/0")), "after twice as long again"
    assert not made.router.is_open(first)
    made.router.check()


def test_what_a_loser_that_was_heard_took_is_learnt() -> None:
    made = talk(policy="k_of_n")
    made.call()
    first = made.id
    made.passes(60)
    made.reply("b/0")
    before = made.router.snapshot(made.now_ns).replicas[0]
    made.passes(30)
    made.router.on_reply(first, key("a/0"), "late", made.now_ns)
    after = made.router.snapshot(made.now_ns).replicas[0]
    assert (after.answered, after.won) == (before.answered + 1, before.won)
    assert not made.router.is_open(first)
