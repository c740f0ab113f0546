"""What every link does: asynchronous copies from one tier to another, in the order in which they were asked for."""

from __future__ import annotations

from typing import Protocol

from skyfog_inference.tier import Span, Tier


class Ticket(Protocol):
    """One copy under way."""

    def wait(self) -> None:
        """Until it is done. Raises OSError where it failed (a broken disk, a short read); so does a second wait."""
        ...

    @property
    def done(self) -> bool: ...


class Link(Protocol):
    """Copies from `source` to `target`. On CUDA `wait` makes the current stream wait, not the host."""

    source: Tier
    target: Tier

    def copy(self, source: Span, target: Span) -> Ticket:
        """Start a copy; spans are of one size. Never blocks on the copy itself. Raises ValueError for wrong spans."""
        ...

    def close(self) -> None:
        """End what runs in the background; copies not begun are dropped, and their tickets raise."""
        ...
