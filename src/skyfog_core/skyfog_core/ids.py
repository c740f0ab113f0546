"""Request ids: 16 bytes that no two requests of a fleet share, made by the robot."""

from __future__ import annotations

import os

RequestId = bytes
REQUEST_ID_BYTES = 16


class RequestIds:
    """Hands out ids: 8 random bytes of this process, then a counter of 8 bytes (never reused)."""

    def __init__(self, prefix: bytes | None = None) -> None:
        self._prefix = os.urandom(8) if prefix is None else prefix
        if len(self._prefix) != 8:
            raise ValueError(f"prefix has {len(self._prefix)} bytes, not 8")
        self._count = 0

    def next(self) -> RequestId:
        """A fresh id. To be called from one thread only."""
        self._count += 1
        return self._prefix + self._count.to_bytes(8, "big")
