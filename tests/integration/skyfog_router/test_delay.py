"""Emulated distance: later, in order, and any number under way at once."""

from __future__ import annotations

import queue
import threading
import time

import pytest
from integration.skyfog_router.ends import KEYS, LIMIT_S

from skyfog_core.units import MS
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.membership import Announcement
from skyfog_router.transport.base import Query, ReplicaEvents
from skyfog_router.transport.delay import DelayedReplicaTransport

DELAY_NS = 30 * MS
WHO = ReplicaKey("a", "0")


class Wire:
    """A transport whose events the test makes."""

    events: ReplicaEvents
    announced: Announcement | None = None
    closed = False

    def serve(self, keys: ServiceKeys, who: ReplicaKey, events: ReplicaEvents) -> None:
        assert (keys, who) == (KEYS, WHO)
        self.events = events

    def announce(self, announcement: Announcement | None) -> None:
        self.announced = announcement

    def close(self) -> None:
        self.closed = True


class Seen:
    """Notes when what arrives."""

    def __init__(self) -> None:
        self.at_ns: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()

    def query(self, query: Query) -> None:
        self.at_ns.put((time.monotonic_ns(), query))

    def cancelled(self, request_id: bytes) -> None:
        self.at_ns.put((time.monotonic_ns(), request_id))


def test_everything_arrives_in_order_and_none_before_its_time() -> None:
    wire, seen = Wire(), Seen()
    distant = DelayedReplicaTransport(wire, DELAY_NS)
    distant.serve(KEYS, WHO, seen)
    sent = []
    for i in range(1_000):
        sent.append((time.monotonic_ns(), i.to_bytes(2, "big")))
        wire.events.cancelled(i.to_bytes(2, "big"))
    arrived = [seen.at_ns.get(timeout=LIMIT_S) for _ in sent]
    distant.close()
    assert [what for _, what in arrived] == [what for _, what in sent]
    assert all(at - began >= DELAY_NS for (at, _), (began, _) in zip(arrived, sent, strict=True))
    assert arrived[-1][0] - sent[0][0] < 1_000 * DELAY_NS, "they waited for each other"


def test_close_ends_its_thread_and_the_transport_below() -> None:
    wire = Wire()
    distant = DelayedReplicaTransport(wire, DELAY_NS)
    before = set(threading.enumerate())
    distant.serve(KEYS, WHO, Seen())
    (thread,) = (one for one in set(threading.enumerate()) - before if one.name == "distance")
    distant.announce(Announcement())
    distant.close()
    thread.join(LIMIT_S)
    assert (thread.is_alive(), wire.announced, wire.closed) == (False, Announcement(), True)


@pytest.mark.parametrize("count", [5_000])
def test_more_than_can_be_under_way_is_not_lost(count: int) -> None:
    wire, seen = Wire(), Seen()
    distant = DelayedReplicaTransport(wire, DELAY_NS)
    distant.serve(KEYS, WHO, seen)
    for i in range(count):
        wire.events.cancelled(i.to_bytes(2, "big"))
    arrived = {seen.at_ns.get(timeout=LIMIT_S)[1] for _ in range(count)}
    distant.close()
    assert len(arrived) == count
