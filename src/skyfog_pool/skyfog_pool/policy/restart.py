"""What a controller's restart must not forget, as plain data for JSON.

Steady time begins anew with each process, so that every time is told as an age, or as what is left of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from skyfog_core.errors import SkyfogError
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.actions import Action, Drain, Launch, Terminate
from skyfog_pool.policy.market import Notice, Priced, Prices
from skyfog_pool.policy.view import Replica

if TYPE_CHECKING:
    from skyfog_pool.policy.pool import PoolPolicy

FORMAT = 1
_PLAIN = (
    "id",
    "zone",
    "market",
    "version",
    "latency_ms",
    "cleanups",
    "replaces",
    "price_per_hour",
    "machine_ns",
    "usd",
)
_TIMES = ("since_ns", "launched_ns", "started_ns", "ready_ns", "drain_by_ns", "retry_ns", "billed_ns")


class UnknownFormat(SkyfogError):
    """A snapshot that another version wrote."""


def snapshot(pool: PoolPolicy, now_ns: int) -> dict[str, Any]:
    """See PoolPolicy.snapshot."""
    return {
        "format": FORMAT,
        "version": pool.version,
        "next_replica": pool.ledger.next_replica,
        "target": pool.target,
        "is_going_down": pool.is_going_down,
        "prices": {zone: [_finite(price.spot), _finite(price.on_demand)] for zone, price in pool.prices.items()},
        "replicas": [_as_data(who, now_ns) for who in pool.replicas.values()],
        "books": pool.ledger.books.snapshot(),
        "gates": pool.gates.snapshot(now_ns),
        "failing": pool.failing.snapshot(now_ns),
        "scaling": pool.scaling.snapshot(now_ns),
        "placement": {"name": type(pool.placement).__name__, "state": pool.placement.snapshot(now_ns)},
    }


def restore(pool: PoolPolicy, state: Mapping[str, Any], now_ns: int, asleep_ns: int) -> None:
    """See PoolPolicy.restore."""
    assert not pool.replicas, "restore into a policy that has seen something"
    if state["format"] != FORMAT:
        raise UnknownFormat(f"a snapshot of format {state['format']}; this version knows {FORMAT}")
    then_ns = now_ns - asleep_ns
    pool.now_ns = now_ns
    pool.ledger.next_replica = state["next_replica"]
    pool.target = state["target"]
    pool.is_going_down = state["is_going_down"]
    pool.prices = {
        zone: Prices(_infinite(spot), _infinite(on_demand))
        for zone, (spot, on_demand) in state["prices"].items()
        if zone in pool.zones
    }
    for row in state["replicas"]:
        who = _from_data(row, then_ns)
        pool.ledger.replicas[who.id] = who
    pool.ledger.books.restore(state["books"])
    pool.scaling.restore(state["scaling"], then_ns)
    if state["version"] == pool.version:
        pool.gates.restore(state["gates"], then_ns)
        pool.failing.restore(state["failing"], then_ns)
    if state["placement"]["name"] == type(pool.placement).__name__:
        pool.placement.restore(state["placement"]["state"], then_ns)
    for zone, price in pool.prices.items():  # what is known already is not told as a change again
        pool.placement.observe(Priced(zone, price), now_ns)


def resume(replicas: Iterable[Replica], now_ns: int) -> list[Action]:
    """See PoolPolicy.resume."""
    because = "decided before the restart"
    actions: list[Action] = []
    for who in replicas:
        if who.state is State.PENDING:
            actions.append(Launch(who.id, who.zone, who.market, who.version, because))
        elif who.state is State.DRAINING:
            left_ns = 0 if who.drain_by_ns is None else max(0, who.drain_by_ns - now_ns)
            actions.append(Drain(who.id, left_ns, because))
        elif who.state is State.SHUTTING_DOWN:
            actions.append(Terminate(who.id, because))
    return actions


def _as_data(who: Replica, now_ns: int) -> dict[str, Any]:
    data: dict[str, Any] = {name: getattr(who, name) for name in _PLAIN}
    data["state"] = who.state.value
    data["ending"] = None if who.ending is None else who.ending.value
    for name in _TIMES:
        at_ns = getattr(who, name)
        data[name] = None if at_ns is None else at_ns - now_ns
    notice = who.notice
    if notice is not None:
        data["notice"] = [notice.kind, None if notice.at_ns is None else notice.at_ns - now_ns]
    return data


def _from_data(row: Mapping[str, Any], now_ns: int) -> Replica:
    times = {name: None if row[name] is None else now_ns + row[name] for name in _TIMES}
    values: dict[str, Any] = {name: row[name] for name in _PLAIN} | times
    values["state"] = State(row["state"])
    values["ending"] = None if row["ending"] is None else State(row["ending"])
    if "notice" in row:
        kind, left_ns = row["notice"]
        values["notice"] = Notice(kind, None if left_ns is None else now_ns + left_ns)
    return Replica(**values)


def _finite(price: float) -> float | None:
    return None if price == inf else price  # JSON has no infinity


def _infinite(price: float | None) -> float:
    return inf if price is None else price
