"""The owner thread: one thread holds the policies, callbacks only put events in its bounded inbox.

Requests are refused at the door when `max_in_flight` of them are inside. All else that can arrive is bounded by
them: at most fan-out replies and one end for each query.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import structlog

from skyfog_core.clock import Clock
from skyfog_core.errors import Overloaded
from skyfog_core.units import S

log = structlog.get_logger()

T = TypeVar("T")

CLOSE_LIMIT_S = 5.0
SNAPSHOT_LIMIT_S = 0.5  # for who looks on: a driver that is silent for longer is in trouble
IDLE_NS = S  # a wake-up a second, so that a clock that was suspended is noticed


class Owner:
    """A thread that runs posted calls one by one, and a timer between them."""

    def __init__(self, name: str, clock: Clock, on_timer: Callable[[int], int | None], limit: int) -> None:
        """`on_timer(now_ns)` does what is due and returns when it wants to be called next."""
        self._clock = clock
        self._on_timer = on_timer
        self._limit = limit
        self._inbox: queue.SimpleQueue[Callable[[int], None] | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, call: Callable[[int], None]) -> None:
        """Queue new work. Raises Overloaded when the inbox is full or closed."""
        if self._closing:
            raise Overloaded("shutting down")
        if self._inbox.qsize() >= self._limit:
            raise Overloaded(f"inbox holds {self._limit} events")
        self._inbox.put(call)

    def post(self, call: Callable[[int], None]) -> None:
        """Queue what belongs to work already accepted: bounded by that work, never refused."""
        self._inbox.put(call)

    def ask(self, call: Callable[[int], T], limit_s: float) -> T:
        """What `call` returns, or raises, in the owner's thread; for the few who look on, from other threads.

        Not refused when the inbox is full, since that is when people look. Raises Overloaded where the answer does
        not come within `limit_s`, or the owner is closing; `call` is then not begun any more.
        """
        answer: Future[T] = Future()

        def run(now_ns: int) -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(call(now_ns))
                except Exception as error:  # noqa: BLE001  # for whoever asked
                    answer.set_exception(error)

        if self._closing:
            raise Overloaded("shutting down")
        self._inbox.put(run)
        try:
            return answer.result(limit_s)
        except TimeoutError:
            answer.cancel()
            raise Overloaded(f"{self._thread.name} did not answer within {limit_s} s") from None

    def close(self, last: Callable[[int], None]) -> None:
        """Run what is queued, then `last`, then end the thread. Waits at most CLOSE_LIMIT_S."""
        if self._closing:
            return
        self._closing = True
        self._inbox.put(last)
        self._inbox.put(None)
        self._thread.join(CLOSE_LIMIT_S)
        if self._thread.is_alive():
            log.error("owner_stuck", thread=self._thread.name, limit_s=CLOSE_LIMIT_S)

    def _run(self) -> None:
        due: int | None = None
        while True:
            now = self._clock.now_ns()
            wait_ns = IDLE_NS if due is None else min(IDLE_NS, max(0, due - now))
            try:
                call = self._inbox.get(timeout=wait_ns / S) if wait_ns else self._inbox.get_nowait()
            except queue.Empty:
                call = _nothing
            if call is None:
                return
            self._guarded(call)
            due = self._guarded(self._on_timer)  # after a failed call too, which may have changed what is due

    def _guarded(self, call: Callable[[int], T]) -> T | None:
        try:
            return call(self._clock.now_ns())
        except Exception:
            log.exception("event_failed", thread=self._thread.name)
            return None


def _nothing(_now_ns: int) -> None:
    pass
