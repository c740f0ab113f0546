"""Decisions and what came of them, one JSON object a line, apart from logs.

Every line has `t_ns` (steady clock of the writer), `event` and the event's own plain fields. Consumers (console,
bench, demo) only read; nothing flows back.
"""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from skyfog_core.errors import ConfigError


class Trace(Protocol):
    """Where a driver notes what happened. Called from the driver's thread only."""

    def event(self, name: str, t_ns: int, **fields: Any) -> None:
        """Note one event with plain JSON fields."""
        ...

    def close(self) -> None:
        """Write out what is buffered."""
        ...


class NoTrace:
    """Notes nothing."""

    def event(self, name: str, t_ns: int, **fields: Any) -> None:
        pass

    def close(self) -> None:
        pass


class MemoryTrace:
    """Keeps the newest `limit` events, for tests."""

    def __init__(self, limit: int = 100_000) -> None:
        self.events: deque[dict[str, Any]] = deque(maxlen=limit)

    def event(self, name: str, t_ns: int, **fields: Any) -> None:
        self.events.append({"t_ns": t_ns, "event": name, **fields})

    def close(self) -> None:
        pass


class FileTrace:
    """Appends to a JSON-lines file, a line at once, so that others can follow it and a crash loses nothing.

    A full disk ends the trace with one error, never the node.
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigError where the file cannot be opened."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", buffering=1)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from None
        self.failed: OSError | None = None

    def event(self, name: str, t_ns: int, **fields: Any) -> None:
        if self.failed is not None:
            return
        try:
            self._file.write(json.dumps({"t_ns": t_ns, "event": name, **fields}) + "\n")
        except OSError as error:
            self.failed = error

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.failed = self.failed or error
