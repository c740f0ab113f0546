"""A cloud that does what a pool's policy asks for, one step at a call, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.demand import Demand, Fixed, Scaling
from skyfog_pool.policy.market import Prices, Zone
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_pool.policy.view import Placement, Replica

ZONES = [Zone("a", "east"), Zone("b", "east"), Zone("c", "west")]
PRICES = {"a": Prices(0.30, 1.00), "b": Prices(0.40, 1.00), "c": Prices(0.50, 1.20)}


class KindCloud:
    """Owns a policy; `do` tells it something and keeps what it wants."""

    def __init__(
        self,
        placement: str | Placement = "spothedge",
        target: int | None = None,
        *,
        prices: dict[str, Prices] | None = PRICES,
        use_spot: bool = True,
        **config: Any,
    ) -> None:
        if target is not None:
            config = {"min_replicas": target, "num_overprovision": 0, "dynamic_ondemand_fallback": False} | config
        self.config = ReplicaPolicyConfig(**config)
        scaling: Scaling = Demand(self.config) if target is None else Fixed(target)
        chosen = PLACEMENTS[placement](ZONES) if isinstance(placement, str) else placement  # type: ignore[index]
        self.policy = PoolPolicy(self.config, ZONES, chosen, scaling, use_spot=use_spot)
        self.now_ns = 0
        self.asked: list[Action] = []
        if prices is not None:
            self.do("on_prices", prices)

    def do(self, event: str, *arguments: Any) -> list[Action]:
        """Tell the policy. Returns what it wants done because of it."""
        actions: list[Action] = getattr(self.policy, event)(*arguments, self.now_ns)
        self.asked += actions
        self.policy.settle(self.now_ns)
        self.policy.check()
        return actions

    def wait(self, seconds: float) -> list[Action]:
        """Time passes; timers ring when they are due."""
        until_ns = self.now_ns + round(seconds * S)
        actions: list[Action] = []
        for _ in range(20_000):  # a strategy may look each few seconds
            due_ns = self.policy.next_timer_ns()
            if due_ns is None or due_ns > until_ns:
                break
            self.now_ns = max(self.now_ns, due_ns)
            actions += self.do("on_timer")
        else:
            raise AssertionError("a timer rings for ever")
        self.now_ns = until_ns
        return actions

    def ready(self, seconds: float = 0.0) -> None:
        """Everything that is on its way gets ready, what is to go goes, until nothing changes."""
        self.now_ns += round(seconds * S)
        for _ in range(100):
            todo = [who for who in self.policy.replicas.values() if who.state not in {State.READY, State.UNKNOWN}]
            if not todo:
                return
            for who in todo:
                self.next(who)
        raise AssertionError("never at rest")

    def next(self, who: Replica) -> None:
        """One step of a replica."""
        match who.state:
            case State.PENDING:
                self.do("on_provisioning", who.id)
            case State.PROVISIONING:
                self.do("on_started", who.id)
            case State.STARTING | State.NOT_READY:
                self.do("on_ready", who.id)
            case State.DRAINING:
                self.do("on_drained", who.id)
            case State.SHUTTING_DOWN:
                self.do("on_terminated", who.id)

    def states(self) -> dict[int, State]:
        return {replica: who.state for replica, who in self.policy.replicas.items()}

    def where(self) -> list[str]:
        """Zones of the replicas of use, spot in small letters."""
        used = [who for who in self.policy.replicas.values() if who.counts]
        return sorted(who.zone if who.market == "spot" else who.zone.upper() for who in used)


def launches(actions: Iterable[Action]) -> list[tuple[str, str]]:
    """Zone and market of each."""
    return [(action.zone, action.market) for action in actions if isinstance(action, Launch)]


def ended(actions: Iterable[Action]) -> list[int]:
    """Replicas that are drained or given back."""
    return [action.replica for action in actions if isinstance(action, Drain | Terminate)]
