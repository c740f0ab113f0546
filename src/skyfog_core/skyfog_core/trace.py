"""Decisions and what came of them, one JSON object a line, apart from logs.

Every line has `t_ns` (steady clock of the writer), `event` and the event's own plain fields. Consumers (console,
bench, demo) only read; nothing flows back.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
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


class Follower:
    """Reads the new whole lines of a JSON-lines file that another process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lines = 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """What was added since the last call, all of it again where the file was begun anew; nothing without a file.

        Raises ConfigError, naming the line, for one that is no JSON object.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._offset:
                self._offset = self._lines = 0
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # its writer is not done with it
                self._offset += len(line)
                self._lines += 1
                yield self._parsed(line)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigError(f"{self._path}:{self._lines}: no JSON object: {line[:60]!r}")
        return found
