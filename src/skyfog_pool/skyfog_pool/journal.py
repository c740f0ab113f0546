"""A Keeper's pen: rows that changed, events and costs, until they are committed in one transaction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite

from skyfog_core.units import S
from skyfog_pool.lifecycle import FAILURES, State
from skyfog_pool.policy.market import Prices
from skyfog_pool.policy.pool import PoolPolicy
from skyfog_pool.provider.base import Instance, Phase
from skyfog_pool.store import Costs, Event, Row, Stamp, Store
from skyfog_pool.work import Outside

_COUNTED = {State.PREEMPTED: "preempted"} | dict.fromkeys(FAILURES, "failed")  # ends, as counted for metrics
SAVE_EVERY_NS = 5 * S  # what the policy learns, and what machines cost, where nothing is decided


@dataclass(slots=True)
class Baseline:
    """What as many replicas on demand as were wanted would have cost: the target at the least price of the moment."""

    usd: float = 0.0
    usd_per_hour: float = 0.0  # since the stamp
    stamp: str = ""

    @classmethod
    def read(cls, store: Store) -> Baseline:
        return cls(**json.loads(store.meta("baseline") or "{}"))

    def go_on(self, usd_per_hour: float, stamp: Stamp) -> None:
        """Up to now as it was, and from now on at that."""
        since = Stamp.parse(self.stamp)
        self.usd += 0.0 if since is None else self.usd_per_hour * stamp.elapsed_s(since) / 3_600
        self.usd_per_hour, self.stamp = usd_per_hour, str(stamp)


class Journal:
    """Of one pool."""

    def __init__(self, store: Store, outside: Outside, now_ns: int) -> None:
        self.prices: Mapping[str, Prices] = {}
        self.dirty: set[int] = set()  # replicas whose rows have changed
        self.counts: Counter[str] = Counter()  # events of this process, by name
        self.baseline = Baseline.read(store)
        self._store, self._out = store, outside
        self._events: list[Event] = []
        self._written: dict[int, Costs] = {}  # of each live replica, as in the store
        self._saved_ns = now_ns

    def note(self, name: str, replica: int | None, **fields: object) -> None:
        """An event, to be committed with what it is about."""
        self.counts[name] += 1
        self._events.append(Event(self._out.unix_s(), name, replica, fields))

    def opened(self, row: Row) -> None:
        """A live row, as read from the store."""
        self._written[row.id] = _costs(row)

    def ended(self, row: Row) -> None:
        """Its replica is gone."""
        row.ended_unix = self._out.unix_s()
        if row.state in _COUNTED:
            self.counts[_COUNTED[row.state]] += 1

    def save(self, rows: Sequence[Row], policy: PoolPolicy, meta: Mapping[str, str], now_ns: int) -> None:
        """Commit what has changed, or all of it where it is time to. Raises StoreError."""
        due = now_ns - self._saved_ns >= SAVE_EVERY_NS
        if not (self.dirty or self._events or due):
            return
        snapshot = json.dumps(policy.snapshot(now_ns))
        with self._store.transaction():
            for row in rows:
                if due or row.id in self.dirty:
                    self._store.put(row)
                    self._written[row.id] = _costs(row)
            for event in self._events:
                self._store.note(event)
            baseline = json.dumps(asdict(self.baseline))
            for key, value in {
                **meta,
                "baseline": baseline,
                "policy": snapshot,
                "saved": str(self._out.stamp(now_ns)),
            }.items():
                self._store.set_meta(key, value)
        for event in self._events:
            self._out.trace.event(event.name, now_ns, replica=event.replica, **event.fields)
        live = {row.id for row in rows if row.is_live}
        self._written = {replica: costs for replica, costs in self._written.items() if replica in live}
        self.dirty.clear()
        self._events.clear()
        self._saved_ns = now_ns

    def reprice(self, prices: Mapping[str, Prices], target: int, now_ns: int) -> None:
        """From now on these are the prices."""
        self.prices = dict(prices)
        self.baseline.go_on(target * self.on_demand_price(), self._out.stamp(now_ns))

    def hurry(self) -> None:
        """Write everything with the next save."""
        self._saved_ns -= SAVE_EVERY_NS

    def bill(self, rows: Iterable[Row], instances: Sequence[Instance], target: int, now_ns: int) -> None:
        """What living machines have cost since they were last billed.

        Not written at once: until it is, the older stamp stands in the store, from which a successor bills.
        """
        stamp = self._out.stamp(now_ns)
        self.baseline.go_on(target * self.on_demand_price(), stamp)
        by_token = {row.token: row for row in rows}
        for instance in instances:
            row = by_token.get(instance.token)
            since = Stamp.parse(row.billed) if row is not None else None
            if row is None or since is None or instance.id != row.instance:
                continue
            seconds = stamp.elapsed_s(since)
            row.seconds += seconds
            row.usd += seconds / 3_600 * (instance.price_per_hour or self.price(row))
            row.billed = "" if instance.phase is Phase.GONE else str(stamp)

    def price(self, row: Row) -> float:
        """USD an hour of its machine, as told by its provider, or else by its market."""
        prices = self.prices.get(row.zone)
        market = prices.of(row.market) if prices is not None else 0.0
        return row.price_per_hour or (market if isfinite(market) else 0.0)

    def on_demand_price(self) -> float:
        """USD an hour of the cheapest machine on demand; 0 where none is told."""
        return min((price.on_demand for price in self.prices.values() if isfinite(price.on_demand)), default=0.0)

    def unwritten(self, rows: Iterable[Row]) -> Costs:
        """What living machines have cost beyond what the store holds."""
        pairs = [(_costs(row), self._written.get(row.id, Costs())) for row in rows]
        return Costs(
            sum(now.seconds - then.seconds for now, then in pairs),
            sum(now.usd - then.usd for now, then in pairs),
        )


def _costs(row: Row) -> Costs:
    return Costs(row.seconds, row.usd)
