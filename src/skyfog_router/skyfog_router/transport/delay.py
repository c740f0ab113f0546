"""Emulated distance: what arrives at a replica is seen a fixed time later.

All of a round trip's distance is on the way in, which the robot cannot tell from half each way. It costs time alone,
not the replica's capacity: any number of messages are under way at once, as on a long link.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

from skyfog_core.ids import RequestId
from skyfog_core.units import S
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.membership import Announcement
from skyfog_router.transport.base import Query, ReplicaEvents, ReplicaTransport

UNDER_WAY = 4_096  # more than this many messages arrive undelayed
CLOSE_LIMIT_S = 2.0


class DelayedReplicaTransport:
    """A replica's transport (transport.base.ReplicaTransport) at a distance of `delay_ns`."""

    def __init__(self, transport: ReplicaTransport, delay_ns: int) -> None:
        self._transport = transport
        self._delay_ns = delay_ns
        self._line: queue.Queue[tuple[int, Callable[[], None]]] = queue.Queue(UNDER_WAY)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="distance", daemon=True)

    def serve(self, keys: ServiceKeys, who: ReplicaKey, events: ReplicaEvents) -> None:
        self._thread.start()
        self._transport.serve(keys, who, _Distant(events, self._later))

    def announce(self, announcement: Announcement | None) -> None:
        self._transport.announce(announcement)

    def tell_load(self, load: bytes) -> None:
        self._transport.tell_load(load)

    def links(self) -> int:
        return self._transport.links()

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._line.put_nowait((0, lambda: None))  # wakes the thread where nothing is under way
        if self._thread.is_alive():
            self._thread.join(CLOSE_LIMIT_S)
        self._transport.close()

    def _later(self, call: Callable[[], None]) -> None:
        try:
            self._line.put_nowait((time.monotonic_ns() + self._delay_ns, call))
        except queue.Full:
            call()

    def _run(self) -> None:
        while True:
            due_ns, call = self._line.get()  # in the order of arrival, which is that of their due times
            if self._closing.wait(max(0, due_ns - time.monotonic_ns()) / S):
                return
            call()


class _Distant:
    """Events that come later."""

    def __init__(self, events: ReplicaEvents, later: Callable[[Callable[[], None]], None]) -> None:
        self._events = events
        self._later = later

    def query(self, query: Query) -> None:
        self._later(lambda: self._events.query(query))

    def cancelled(self, request_id: RequestId) -> None:
        self._later(lambda: self._events.cancelled(request_id))
