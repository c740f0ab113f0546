"""Answers that a replica has given, for whoever asks again: a request is never run twice.

A robot asks again when the link broke before it heard. By two routers every request comes twice, and the second may
be behind the answer of the first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from skyfog_core.ids import RequestId

MAX_BYTES = 8 << 20  # of all answers that are kept; the oldest go first, the newest is there whatever its size
OVERHEAD_BYTES = 1_000  # an answer takes this much besides its payload, more or less

A = TypeVar("A")


class Kept(Generic[A]):
    """The latest answers by request, bounded in bytes. Any thread."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._answers: OrderedDict[RequestId, tuple[A, int]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, request_id: RequestId, answer: A, size: int) -> None:
        """`size` is that of its payload in bytes."""
        size += OVERHEAD_BYTES
        with self._lock:
            if request_id in self._answers:
                return
            self._answers[request_id] = (answer, size)
            self._bytes += size
            while self._bytes > self._max_bytes and len(self._answers) > 1:
                _, (_, freed) = self._answers.popitem(last=False)
                self._bytes -= freed

    def find(self, request_id: RequestId) -> A | None:
        with self._lock:
            found = self._answers.get(request_id)
        return None if found is None else found[0]
