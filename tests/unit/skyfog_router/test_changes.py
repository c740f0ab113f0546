"""Other rules while it runs, what the snapshot tells, and that to look changes nothing."""

from __future__ import annotations

from random import Random

import pytest
from unit.skyfog_router.policies import FULL, Talk, kinds, sends

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import ServiceFailed
from skyfog_core.units import MS
from skyfog_router.policy.actions import Action, Load, Send


def config(**values: object) -> RoutingConfig:
    return RoutingConfig(**{"deadline_ms": 1_000, "extra_load": 0.0, **values})  # type: ignore[arg-type]


def test_other_rules_hold_from_the_next_request_on_and_what_was_learnt_stays() -> None:
    talk = Talk("a/0", "b/0", policy="broadcast")
    talk.teach({"a/0": [30.0] * 20, "b/0": [10.0] * 20})
    talk.call()
    talk.router.reconfigure(config(policy="single"), talk.now_ns)
    assert kinds(talk.reply("a/0")) == ["Deliver", "Cancel"], "the old request by the old rules"
    assert sends(talk.call()) == [("b/0", "first")]
    snapshot = talk.router.snapshot(talk.now_ns)
    assert (snapshot.policy, snapshot.called) == ("single", 2)
    assert snapshot.replicas[0].p50_ms == pytest.approx(30, rel=0.1)


def test_another_limit_counts_at_once() -> None:
    talk = Talk("a/0", "b/0", policy="single")
    health = RoutingConfig().health.model_copy(update={"consecutive_failures": 1, "ejection_ms": 7})
    talk.router.reconfigure(config(policy="broadcast", health=health), talk.now_ns)
    talk.call()
    assert "Eject" in kinds(talk.error("a/0", ServiceFailed("y")))
    assert talk.router.snapshot(talk.now_ns).replicas[0].back_in_ms == 7


def test_a_budget_that_is_cut_is_cut_at_once() -> None:
    talk = Talk("a/0", extra_load=1.0)
    talk.router.reconfigure(config(extra_load=0.0), 0)
    assert not talk.router.budget.has()


def test_the_snapshot_tells_what_was_seen() -> None:
    talk = Talk("a/0", "b/0", policy="single", slo_ms=50)
    talk.join("c/0", price_per_hour=2.5, capacity=3)
    talk.join("me/0", local=True)
    for took_ms in (10, 20, 24):
        ((name, _),) = sends(talk.call())
        talk.passes(took_ms)
        talk.reply(name, load=Load(service_ns=5 * MS, queue_depth=2, running=1))
    talk.call()
    told = talk.router.snapshot(talk.now_ns)
    assert (told.called, told.in_flight, told.failed) == (4, 1, 0)
    assert (told.delivered, told.within_slo, told.slo_ms, told.panic, told.sends) == (3, 3, 50, False, 4)
    by_name = {f"{r.zone}/{r.replica}": r for r in told.replicas}
    assert list(by_name) == ["a/0", "b/0", "c/0", "me/0"]
    assert (by_name["c/0"].price_per_hour, by_name["c/0"].capacity) == (2.5, 3)
    assert by_name["c/0"].p50_ms == pytest.approx(24, rel=0.05)
    assert by_name["me/0"].local
    assert by_name["a/0"].queue_depth == 3
    assert {r.state for r in told.replicas} == {"healthy"}
    for total, part in ((3, "answered"), (3, "won"), (1, "in_flight"), (4, "asked")):
        assert sum(getattr(r, part) for r in told.replicas) == total


def test_the_snapshot_tells_every_state() -> None:
    talk = Talk("a/0", "b/0", "c/0", "d/0", policy="broadcast", health={"consecutive_failures": 2})
    talk.teach({"d/0": [10.0] * 20})
    for number in range(2):
        talk.call()
        talk.error("a/0", ServiceFailed("x"))
        if number:
            talk.error("b/0", ServiceFailed("x"))
            talk.error("c/0", FULL, Load(retry_after_ns=40 * MS))
        talk.reply("d/0")
    told = {r.zone: r for r in talk.router.snapshot(talk.now_ns).replicas}
    assert {zone: r.state for zone, r in told.items()} == {
        "a": "ejected",
        "b": "suspect",
        "c": "backing_off",
        "d": "healthy",
    }
    assert (told["a"].back_in_ms, told["c"].back_in_ms, told["d"].back_in_ms) == (1_000, 40, 0)
    assert "2 failures in a row" in told["a"].why
    assert told["b"].why == "x"
    assert told["d"].why == ""


@pytest.mark.parametrize("rank", ["p2c", "peak_ewma"])
def test_to_look_changes_nothing(rank: str) -> None:
    """Also with rules that draw, and with an SLO that is learnt."""

    def play(look: bool) -> list[Action]:
        talk, random = Talk(*(f"a/{i}" for i in range(30)), rank=rank, extra_load=0.5), Random(1)
        actions: list[Action] = []
        for _ in range(60):
            now = talk.call()
            actions += now
            for action in now[:1]:
                assert isinstance(action, Send)
                talk.passes(random.randint(1, 40))
                actions += talk.reply(str(action.replica))
            actions += talk.passes(700)
            if look:
                talk.router.snapshot(talk.now_ns)
            actions += talk.passes(50)
        return actions

    assert play(look=True) == play(look=False)


def test_to_look_neither_draws_nor_learns() -> None:
    talk = Talk("a/0", "b/0", rank="p2c")
    talk.teach({"a/0": [10.0] * 20, "b/0": [20.0] * 20})
    talk.passes(5_000)
    before = talk.router._fleet.random.getstate()
    assert talk.router.snapshot(talk.now_ns).slo_ms is None, "it is learnt by a call"
    assert talk.router._fleet.random.getstate() == before
    talk.call()
    assert talk.router.snapshot(talk.now_ns).slo_ms is not None


def test_refusals_by_all_do_not_count_as_requests_in_time() -> None:
    talk = Talk("a/0", policy="slo", slo_ms=50)
    before = talk.router._caution.may_miss(0.99)
    for _ in range(50):
        talk.call()
        assert kinds(talk.error("a/0", FULL)) == ["Fail"]
    assert talk.router._caution.may_miss(0.99) == before


def test_stale_timers_do_not_pile_up() -> None:
    talk = Talk("a/0", "b/0", policy="hedged", deadline_ms=3_600_000)
    for _ in range(3_000):
        talk.call()
        talk.reply("a/0")
        talk.reply("b/0")
        talk.now_ns += MS
    assert len(talk.router._timers) < 200
