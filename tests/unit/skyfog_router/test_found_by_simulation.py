"""What the simulation found in the router, each as short as it can be told."""

from __future__ import annotations

from typing import Any

import pytest

from skyfog_core.config.router import HealthConfig, RoutingConfig
from skyfog_core.errors import LinkLost, NoQuorum, NotExecuted, OutcomeUnknown
from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement
from skyfog_router.policy.actions import Cancel, Deliver, Eject, Fail, Load, Send
from skyfog_router.policy.router import Router

A, B, C = (ReplicaKey(zone, "0") for zone in "abc")
SAID = Announcement()
QUIET = HealthConfig(max_ejected=0.0, panic_below=0.0)  # nobody is ever out


class Answer:
    quality = 1.0


def request(number: int) -> bytes:
    return number.to_bytes(16, "big")


def made(*live: ReplicaKey, **settings: Any) -> Router:
    router = Router(RoutingConfig(health=QUIET, **settings))
    for replica in live:
        router.on_join(replica, SAID, 0)
    return router


def taught(router: Router, requests: int = 40, took_ns: int = 10 * MS) -> int:
    """Every replica answers for a while, within `took_ns`; returns when that was over."""
    now_ns = 0
    for number in range(1, requests + 1):
        sends = [a for a in router.on_call(request(number), now_ns) if isinstance(a, Send)]
        now_ns += took_ns
        for send in sends:
            if router.is_open(send.request_id):
                router.on_reply(send.request_id, send.replica, Answer(), now_ns)
        now_ns += took_ns
    return now_ns


def play(router: Router, until_ns: int) -> list[tuple[int, Any]]:
    """All that the router's timers do up to a moment."""
    done: list[tuple[int, Any]] = []
    for _ in range(1_000):
        due = router.next_timer_ns()
        if due is None or due > until_ns:
            return done
        done += [(due, action) for action in router.on_timer(due)]
    raise AssertionError("it wakes itself for ever")


def test_hedged_rests_when_everybody_was_asked() -> None:
    router = made(A, policy="hedged", deadline_ms=300)
    router.on_call(request(1), 0)
    outcomes = [action for _, action in play(router, 300 * MS) if isinstance(action, Fail)]
    assert len(outcomes) == 1


def test_slo_asks_everybody_in_time_when_who_was_asked_stays_silent() -> None:
    router = made(A, B, C, policy="slo", extra_load=0.0, slo_ms=300, deadline_ms=300)
    began_ns = taught(router)
    (first,) = (a for a in router.on_call(request(99), began_ns) if isinstance(a, Send))
    sends = [(at, a) for at, a in play(router, began_ns + 300 * MS) if isinstance(a, Send)]
    assert {a.replica for _, a in sends} == {A, B, C} - {first.replica}
    assert all(at <= began_ns + 250 * MS for at, _ in sends), "an answer takes 10 ms"
    assert {a.why for _, a in sends} == {"rescue"}


def test_a_request_whose_replica_was_replaced_may_have_run() -> None:
    router = made(A, policy="single", repeat="if_not_executed")
    router.on_call(request(1), 0)
    router.on_join(A, Announcement(boot=2), 1)
    (fail,) = (a for a in router.on_ended(request(1), A, 2) if isinstance(a, Fail))
    assert type(fail.error) is OutcomeUnknown


def test_a_replica_that_was_on_trial_is_withdrawn_as_any_other() -> None:
    router = made(A, B, policy="broadcast")
    router.on_call(request(1), 0)
    held = router._open[request(1)]
    held.trials.add(A)  # as after a probe that was lost
    router.on_error(request(1), A, LinkLost("gone"), 1)
    router.on_join(A, Announcement(boot=2), 2)  # asked again, not as a probe
    actions = router.on_reply(request(1), B, Answer(), 3)
    assert Cancel(request(1), A) in actions


@pytest.mark.parametrize("answers", [0, 1])
def test_a_service_that_shuts_down_gives_the_best_answer_that_it_has(answers: int) -> None:
    router = made(A, B, policy="k_of_n", answer="best_by_deadline", quality_field="quality")
    router.on_call(request(1), 0)
    if answers:
        assert router.on_reply(request(1), A, Answer(), 1) == []
    outcome, *rest = router.close(NotExecuted("bye"), 2)
    assert isinstance(outcome, Deliver if answers else Fail)
    assert rest == [Cancel(request(1), replica) for replica in ((B,) if answers else (A, B))]
    assert router.next_timer_ns() is None
    router.check()


def test_a_quorum_that_was_not_reached_ran_somewhere() -> None:
    router = made(A, B, policy="broadcast", answer="quorum", deadline_ms=100)
    router.on_call(request(1), 0)
    router.on_reply(request(1), A, Answer(), 1)
    router.on_error(request(1), B, NotExecuted("full"), 2, Load(retry_after_ns=MS))
    router.on_leave(B, SAID, 2)
    (fail,) = (a for _, a in play(router, 100 * MS) if isinstance(a, Fail))
    assert type(fail.error) is NoQuorum


@pytest.mark.parametrize("policy", ["single", "k_of_n", "hedged", "slo"])
def test_the_best_of_k_is_given_once_k_answers_came_and_nobody_more_is_asked(policy: str) -> None:
    router = made(A, B, C, policy=policy, answer="best_by_deadline", k=2, quality_field="quality", slo_ms=100)
    taught(router)
    router.on_call(request(99), 10_000 * MS)
    outstanding = [key for key in (A, B, C) if key in router._open[request(99)].asked]
    sent = len(outstanding)
    while router.is_open(request(99)):
        actions = router.on_reply(request(99), outstanding.pop(0), Answer(), 10_001 * MS)
        new = [a.replica for a in actions if isinstance(a, Send)]
        outstanding += new
        sent += len(new)
    assert sent == 2
    assert any(isinstance(action, Deliver) for action in actions)


def test_slo_asks_who_is_ejected_before_it_fails() -> None:
    """Seed 2258123673: the last one that was fit had a long queue, and a fast one was out for a slow median."""
    health = HealthConfig(consecutive_failures=1, max_ejected=1.0, panic_below=0.0, ejection_ms=10_000)
    router = made(A, B, C, policy="slo", extra_load=0.0, slo_ms=150, deadline_ms=300)
    now_ns = taught(router)
    router.reconfigure(RoutingConfig(policy="slo", extra_load=0.0, slo_ms=150, deadline_ms=300, health=health), now_ns)
    (first,) = (a for a in router.on_call(request(98), now_ns) if isinstance(a, Send))
    (ejected,) = (a for a in router.on_error(request(98), first.replica, LinkLost("gone"), now_ns) if type(a) is Eject)
    router.on_call(request(99), now_ns)
    asked = {a.replica for _, a in play(router, now_ns + 299 * MS) if type(a) is Send and a.request_id == request(99)}
    assert ejected.replica in asked
