"""The replicas that may hold a machine, their states, and what they cost."""

from __future__ import annotations

from collections.abc import Container

from skyfog_pool.lifecycle import ENDED, LAUNCHING, NEXT, State, step
from skyfog_pool.policy.books import Books
from skyfog_pool.policy.market import Market, Prices
from skyfog_pool.policy.view import Replica

ANYWHERE = frozenset(State)


class Ledger:
    """Keeps each replica from its decision to the end of its machine, and counts what is told of others."""

    def __init__(self, first_replica: int) -> None:
        self.replicas: dict[int, Replica] = {}
        self.books = Books()
        self.next_replica = first_replica
        self.ignored = 0  # events told twice, too late, or of no replica

    def find(self, replica: int, states: Container[State] = ANYWHERE) -> Replica | None:
        """The replica, where it is in one of those states."""
        who = self.replicas.get(replica)
        if who is None or who.state not in states:
            self.ignored += 1
            return None
        return who

    def add(
        self, zone: str, market: Market, version: int, price_per_hour: float, now_ns: int, replaces: int | None
    ) -> Replica:
        """One that is decided now."""
        who = Replica(
            self.next_replica,
            zone,
            market,
            version,
            State.PENDING,
            now_ns,
            launched_ns=now_ns,
            replaces=replaces,
            price_per_hour=price_per_hour,
        )
        self.next_replica += 1
        self.replicas[who.id] = who
        return who

    def move(self, who: Replica, state: State, now_ns: int) -> None:
        """To a state, through those between that nobody told of. Raises BadTransition."""
        if who.state is State.PENDING and state not in NEXT[State.PENDING]:
            who.state = State.PROVISIONING
        if who.state is State.PROVISIONING and state not in NEXT[State.PROVISIONING]:
            who.state = State.STARTING
        who.state, who.since_ns = step(who.state, state), now_ns
        who.retry_ns = None

    def end(self, who: Replica, state: State, now_ns: int) -> None:
        """Its machine is gone, or never came. One that failed ends as what it was given back for."""
        back = state is State.TERMINATED or who.state is State.FAILED_CLEANUP
        if back and who.state is not State.SHUTTING_DOWN:
            self.move(who, State.SHUTTING_DOWN, now_ns)
        if who.state is State.SHUTTING_DOWN and who.ending is not None:
            state = who.ending
        self.move(who, state, now_ns)
        who.ended_ns = now_ns
        self.books.close(who, now_ns)
        del self.replicas[who.id]

    def reprice(self, zone: str, price: Prices, now_ns: int) -> None:
        for who in self.replicas.values():
            if who.zone == zone:
                self.books.reprice(who, price, now_ns)

    def settle(self, now_ns: int) -> None:
        """Bring the books of costs up to now."""
        for who in self.replicas.values():
            self.books.settle(who, now_ns)

    def held(self) -> int:
        """Replicas of use, or on the way there, or lost from sight."""
        return sum(who.counts or who.state is State.UNKNOWN for who in self.replicas.values())

    def launching(self) -> int:
        return sum(who.state in LAUNCHING for who in self.replicas.values())

    def check(self) -> None:
        """Raise if the books do not balance."""
        for replica, who in self.replicas.items():
            assert replica == who.id < self.next_replica, who
            assert who.state not in ENDED, who
            assert (who.retry_ns is not None) == (who.state in {State.SHUTTING_DOWN, State.FAILED_CLEANUP}), who
            assert who.state is not State.DRAINING or who.drain_by_ns is not None, who
            assert who.started_ns is not None or who.state not in {State.STARTING, State.READY, State.NOT_READY}, who
            older = None if who.replaces is None else self.replicas.get(who.replaces)
            assert older is None or older.version != who.version, who
        replaced = [who.replaces for who in self.replicas.values() if who.replaces is not None]
        assert len(replaced) == len(set(replaced)), replaced
        self.books.check(self.replicas.values())
