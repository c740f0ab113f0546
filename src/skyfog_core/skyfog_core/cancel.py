"""How running work is told that nobody wants its result any more.

Whoever runs a request hands its Cancellation on, or puts it where code far below finds it, as with its budget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Cancellation:
    """Set once, from any thread; whoever runs the work either asks or is called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._stops: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        """Whether the work was cancelled."""
        return self._set

    def cancel(self) -> None:
        """Call what `on_cancel` was given, in this thread. A second time nothing happens."""
        with self._lock:
            if self._set:
                return
            self._set = True
            stops, self._stops = self._stops, []
        for stop in stops:
            stop()

    def on_cancel(self, stop: Callable[[], None]) -> None:
        """Have `stop` called on cancellation; at once where that was before. `stop` returns soon and raises nothing."""
        with self._lock:
            if not self._set:
                self._stops.append(stop)
                return
        stop()

    def forget(self) -> None:
        """The work has ended: nothing is called any more."""
        with self._lock:
            self._stops.clear()


_current: ContextVar[Cancellation | None] = ContextVar("cancellation", default=None)


def current() -> Cancellation | None:
    """What cancels the request at hand; None: nothing does."""
    return _current.get()


@contextmanager
def by(cancellation: Cancellation) -> Iterator[None]:
    """Inside the block the request at hand is cancelled by `cancellation`."""
    token = _current.set(cancellation)
    try:
        yield
    finally:
        _current.reset(token)
