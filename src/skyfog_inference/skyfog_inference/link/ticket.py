"""The ticket of a copy that threads perform in pieces."""

from __future__ import annotations

import threading


class PiecesTicket:
    """Done when all its pieces are; the first error of any is the copy's."""

    def __init__(self, pieces: int) -> None:
        self._lock = threading.Lock()
        self._left = pieces
        self._error: OSError | None = None
        self._done = threading.Event()
        if not pieces:
            self._done.set()

    def piece_done(self, error: OSError | None = None) -> None:
        """One piece has ended."""
        with self._lock:
            self._left -= 1
            self._error = self._error or error
            if self._left == 0:
                self._done.set()

    @property
    def failed(self) -> bool:
        """Whether a piece has failed: the others need not be begun."""
        return self._error is not None

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self) -> None:
        self._done.wait()
        if self._error is not None:
            raise self._error
