"""How long the request at hand may still take, for code far below the proxy that took it in.

A replica sets the deadline around a service's call; the service, and what it calls in the same thread, may read it.
Outside of a replica there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline_ns: ContextVar[int | None] = ContextVar("deadline_ns", default=None)


def deadline_ns() -> int | None:
    """When the request at hand is too late, on the steady clock; None: never."""
    return _deadline_ns.get()


@contextmanager
def until(deadline_ns: int | None) -> Iterator[None]:
    """Inside the block the request at hand is due by `deadline_ns` on the steady clock."""
    token = _deadline_ns.set(deadline_ns)
    try:
        yield
    finally:
        _deadline_ns.reset(token)
