"""Policies that are broken on purpose: each is caught, and by the invariant that it breaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from skyfog_pool.policy.actions import Action, Drain, Launch
from skyfog_pool.policy.books import Books
from skyfog_pool.policy.demand import Demand
from skyfog_pool.policy.market import Notice
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_pool.policy.view import Replica
from skyfog_sim.pool_controller import Store
from skyfog_sim.pool_draw import PoolDraw
from skyfog_sim.pool_seeds import replay

SEEDS = range(150)


class ForgetsReplicas(PoolPolicy):
    """Drops a replica from its books while its machine runs."""

    def on_unknown(self, replica: int, now_ns: int) -> list[Action]:
        return []

    def on_failed(self, replica: int, state: Any, now_ns: int) -> list[Action]:
        self.ledger.replicas.pop(replica, None)
        return self._decide(now_ns)


class Stutters(PoolPolicy):
    """Tells a noticed replica to drain twice."""

    def on_notice(self, replica: int, notice: Notice, now_ns: int) -> list[Action]:
        actions = super().on_notice(replica, notice, now_ns)
        return [*actions, *(action for action in actions if isinstance(action, Drain))]


class Trusts(PoolPolicy):
    """Does not believe that a machine is gone."""

    def on_preempted(self, replica: int, now_ns: int) -> list[Action]:
        return []

    def on_not_ready(self, replica: int, now_ns: int) -> list[Action]:
        return []

    def on_terminated(self, replica: int, now_ns: int) -> list[Action]:
        return super().on_terminated(replica, now_ns) if self.is_going_down else []


class Amnesia(PoolPolicy):
    """Begins anew after each restart."""

    def restore(self, state: Mapping[str, Any], now_ns: int, asleep_ns: int = 0) -> None:
        pass


class NoTimeAsleep(PoolPolicy):
    """Forgets that machines cost while the controller is down."""

    def restore(self, state: Mapping[str, Any], now_ns: int, asleep_ns: int = 0) -> None:
        super().restore(state, now_ns, 0)


class CheapBooks(Books):
    """Reads prices too late."""

    def reprice(self, who: Replica, prices: Any, now_ns: int) -> None:
        who.price_per_hour = prices.of(who.market)


class Miscounts(PoolPolicy):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ledger.books = CheapBooks()


class Greedy(PoolPolicy):
    """Knows no bound."""

    def _no_launch(self, *_: Any) -> str:
        return ""

    def _decide(self, now_ns: int) -> list[Action]:
        actions = super()._decide(now_ns)
        launched = [action for action in actions if isinstance(action, Launch)]
        for action in launched:
            for _ in range(20):
                actions += self._launch(action.zone, action.market, "more", self.prices, now_ns)
        return actions


class GivesUp(PoolPolicy):
    """After a failure it launches no more."""

    def _no_launch(self, *arguments: Any) -> str:
        return "no more" if self.failing.row else super()._no_launch(*arguments)


class Sleepless(PoolPolicy):
    """Wants to be woken for what it just did."""

    def next_timer_ns(self) -> int | None:
        return self.now_ns if self.replicas else None


@pytest.mark.parametrize(
    ("mutant", "invariants"),
    [
        (ForgetsReplicas, {"leak", "books", "raised"}),
        (Stutters, {"decisions"}),
        (Trusts, {"reachable"}),
        (Amnesia, {"decisions", "raised", "books"}),
        (NoTimeAsleep, {"books"}),
        (Miscounts, {"books"}),
        (Greedy, {"books", "bounds"}),
        (GivesUp, {"restored"}),
        (Sleepless, {"timer"}),
    ],
)
def test_a_broken_policy_is_caught(mutant: type[PoolPolicy], invariants: set[str]) -> None:
    def make(drawn: PoolDraw, store: Store) -> PoolPolicy:
        zones = [each.zone for each in drawn.zones]
        return mutant(
            store.config,
            zones,
            PLACEMENTS[drawn.placement](zones),
            Demand(store.config),
            use_spot=store.use_spot,
            version=store.version,
        )

    for seed in SEEDS:
        _, why = replay(seed, make_policy=make)
        if why:
            assert why.partition(":")[0] in invariants, f"seed {seed}: {why}"
            return
    raise AssertionError("not caught")
