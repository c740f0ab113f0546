"""What the links on threads share: a queue of pieces, in order, and the threads that take them off it."""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from skyfog_inference.link.ticket import PiecesTicket
from skyfog_inference.tier import Span, Tier

CLOSE_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a copy: `size` bytes from `at` on within both spans."""

    source: Span
    target: Span
    at: int
    size: int
    ticket: PiecesTicket


class Workers:
    """Threads that perform pieces in the order in which they were put; `close` drops those not begun."""

    def __init__(self, name: str, threads: int, move: Callable[[Piece], None]) -> None:
        self._name = name
        self._move = move
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{at}", daemon=True) for at in range(threads)]
        for thread in self._threads:
            thread.start()

    def copy(self, source: Span, target: Span, piece_bytes: int) -> PiecesTicket:
        """Put a copy in the queue. Raises ValueError for spans of different size, or once closed."""
        if source.size != target.size:
            raise ValueError(f"{self._name}: from {source.size} bytes to {target.size}")
        if self._closed.is_set():
            raise ValueError(f"{self._name} is closed")
        starts = range(0, source.size, piece_bytes)
        ticket = PiecesTicket(len(starts))
        for at in starts:
            self._pieces.put(Piece(source, target, at, min(piece_bytes, source.size - at), ticket))
        return ticket

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            error: OSError | None = None
            if self._closed.is_set():
                error = OSError(errno.ECANCELED, f"{self._name} was closed before the copy")
            elif not piece.ticket.failed:
                try:
                    self._move(piece)
                except OSError as caught:
                    error = caught
                except Exception as caught:  # noqa: BLE001 - whatever it is, who waits must hear of it
                    error = OSError(errno.EIO, f"{self._name}: {caught!r}")
            piece.ticket.piece_done(error)

    def close(self) -> None:
        """End the threads; what is under way is finished."""
        if self._closed.is_set():
            return
        self._closed.set()
        for _ in self._threads:
            self._pieces.put(None)
        for thread in self._threads:
            thread.join(CLOSE_LIMIT_S)


def check_ends(source: Tier, target: Tier, copied: Span, into: Span) -> None:
    """Raises ValueError where spans are not of the link's tiers."""
    if copied.tier is not source or into.tier is not target:
        raise ValueError(f"a link from {source.name} to {target.name}, not {copied.tier.name} to {into.tier.name}")
