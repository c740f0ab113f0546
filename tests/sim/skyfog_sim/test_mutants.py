"""Policies broken on purpose: each invariant catches the mutant that it is for. test_seeds shows what is not broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from skyfog_core.config.router import RoutingConfig
from skyfog_core.errors import DeadlineExceeded, NotExecuted
from skyfog_core.units import MS, S
from skyfog_router.policy.actions import Action, Cancel, Deliver, Fail, Send
from skyfog_router.policy.admission import Admission, AdmissionAction, Answer, Refuse, Start
from skyfog_router.policy.router import Router
from skyfog_sim.check import Broken
from skyfog_sim.cluster import Cluster
from skyfog_sim.replica import Body, ReplicaModel
from skyfog_sim.robot import RobotModel
from skyfog_sim.scenario import draw

SEEDS = range(400)  # a mutant is caught by the first few


class Mutant(Router):
    """Changes the actions of every event."""

    def change(self, actions: list[Action]) -> list[Action]:
        return actions

    def on_call(self, *given: Any) -> list[Action]:
        return self.change(super().on_call(*given))

    def on_reply(self, *given: Any) -> list[Action]:
        return self.change(super().on_reply(*given))

    def on_error(self, *given: Any) -> list[Action]:
        return self.change(super().on_error(*given))

    def on_timer(self, *given: Any) -> list[Action]:
        return self.change(super().on_timer(*given))


class DeliversTwice(Mutant):
    def change(self, actions: list[Action]) -> list[Action]:
        return [*actions, *(a for a in actions if isinstance(a, Deliver))]


class ForgetsDeadlines(Mutant):
    def change(self, actions: list[Action]) -> list[Action]:
        return [a for a in actions if not (isinstance(a, Fail) and isinstance(a.error, DeadlineExceeded))]


class KeepsItsLosers(Mutant):
    def change(self, actions: list[Action]) -> list[Action]:
        return [a for a in actions if not isinstance(a, Cancel)]


class ClaimsThatNothingRan(Mutant):
    def change(self, actions: list[Action]) -> list[Action]:
        return [replace(a, error=NotExecuted("surely not")) if isinstance(a, Fail) else a for a in actions]


class MixesAnswersUp(Mutant):
    last: Body | None = None

    def change(self, actions: list[Action]) -> list[Action]:
        changed: list[Action] = []
        for action in actions:
            if isinstance(action, Deliver):
                changed.append(replace(action, response=self.last or action.response))
                self.last = action.response
            else:
                changed.append(action)
        return changed


class AsksAgainAtOnce(Mutant):
    """Sends every first copy twice, whatever the service declares."""

    def change(self, actions: list[Action]) -> list[Action]:
        changed: list[Action] = []
        for action in actions:
            changed.append(action)
            others = [r for r in self.membership.live() if isinstance(action, Send) and r != action.replica]
            if isinstance(action, Send) and action.attempt == 0 and others:
                changed.append(replace(action, replica=others[0], attempt=1))
        return changed


class GivesTooMuchTime(Mutant):
    def change(self, actions: list[Action]) -> list[Action]:
        return [replace(a, budget_ms=a.budget_ms + 50) if isinstance(a, Send) else a for a in actions]


class TrustsTheDead(Mutant):
    def on_leave(self, *given: Any) -> list[Action]:
        return []


class GivesUpAtOnce(Mutant):
    def on_error(self, request_id: bytes, replica: Any, error: Any, now_ns: int, *rest: Any) -> list[Action]:
        return self.close(error, now_ns) if request_id in self._open else []


class NeverSleeps(Mutant):
    now_ns = 0

    def on_call(self, request_id: bytes, now_ns: int, *rest: Any) -> list[Action]:
        self.now_ns = now_ns
        return super().on_call(request_id, now_ns, *rest)

    def on_timer(self, now_ns: int) -> list[Action]:
        self.now_ns = now_ns
        return super().on_timer(now_ns)

    def next_timer_ns(self) -> int | None:
        return self.now_ns + MS


class SpendsWithoutLimit(Mutant):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._budget.has = lambda tokens=1.0: True  # type: ignore[method-assign]
        self._budget.take = lambda: True  # type: ignore[method-assign]


class LosesCount(Mutant):
    def change(self, actions: list[Action]) -> list[Action]:
        self.books.delivered += sum(isinstance(a, Deliver) for a in actions)
        return actions


class RunsTwice(Admission):
    """Forgets at once what ran."""

    def on_done(self, request_id: bytes, *rest: Any) -> list[AdmissionAction]:
        actions = super().on_done(request_id, *rest)
        self._remembered.clear()
        return actions


class DropsAnswers(Admission):
    def on_done(self, request_id: bytes, *rest: Any) -> list[AdmissionAction]:
        return [a for a in super().on_done(request_id, *rest) if not isinstance(a, Answer)]


class NeverStartsTheQueue(Admission):
    """What waits is forgotten once something is done."""

    def on_done(self, request_id: bytes, *rest: Any) -> list[AdmissionAction]:
        return [a for a in super().on_done(request_id, *rest) if not isinstance(a, Start)]


class RefusesWhatItRuns(Admission):
    def on_query(self, header: Any, ticket: Any, now_ns: int) -> list[AdmissionAction]:
        actions = super().on_query(header, ticket, now_ns)
        starts = [a for a in actions if isinstance(a, Start)]
        lies = [Refuse(a.request_id, a.ticket, NotExecuted.status, "full", "no") for a in starts]
        return [*lies, *actions]


def broken(
    make_router: Callable[..., Router], make_admission: Callable[[ReplicaModel], Admission], policy: Any = None
) -> Iterator[str]:
    """The invariants that the seeds break, one after another."""
    for seed in SEEDS:
        try:
            Cluster(draw(seed, policy), make_router, make_admission).run()
        except Broken as error:
            yield error.invariant


def router(mutant: type[Router]) -> Callable[[RoutingConfig, RobotModel, int], Router]:
    return lambda config, model, seed: mutant(config, model.zone, seed)


def admission(mutant: type[Admission]) -> Callable[[ReplicaModel], Admission]:
    return lambda m: mutant(m.type_hash, m.concurrency, m.max_queue, 300 * S, m.can_abandon, m.can_stop)


@pytest.mark.parametrize(
    ("mutant", "invariant"),
    [
        (DeliversTwice, "outcome"),
        (ForgetsDeadlines, "outcome"),
        (KeepsItsLosers, "loose end"),
        (ClaimsThatNothingRan, "truth"),
        (MixesAnswersUp, "answer"),
        (AsksAgainAtOnce, "repeat"),
        (GivesTooMuchTime, "asked"),
        (TrustsTheDead, "asked"),
        (GivesUpAtOnce, "safety"),
        (NeverSleeps, "leak"),
        (LosesCount, "books"),
    ],
)
def test_a_broken_router_is_caught(mutant: type[Router], invariant: str) -> None:
    assert invariant in broken(router(mutant), ReplicaModel.admission)


def test_a_router_that_spends_without_limit_is_caught() -> None:
    assert "load" in broken(router(SpendsWithoutLimit), ReplicaModel.admission, policy="hedged")


@pytest.mark.parametrize(
    ("mutant", "invariant"),
    [
        (RunsTwice, "twice"),
        (DropsAnswers, "safety"),
        (NeverStartsTheQueue, "leak"),
        (RefusesWhatItRuns, "repeat"),
    ],
)
def test_a_broken_admission_is_caught(mutant: type[Admission], invariant: str) -> None:
    assert invariant in broken(router(Router), admission(mutant))
